// A model server for benchmarks: answers every call with the same ModelInferResponse.
//
// It speaks just enough HTTP/2 for that and does not look at requests, so that it takes little of the core that it
// shares with the load: what is measured is the proxy before it. Not for anything else: it checks nothing.
//
// usage: upstream_echo <host:port> <file with the response, not framed>
package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"log"
	"net"
	"os"
)

const (
	kindData         = 0
	kindHeaders      = 1
	kindSettings     = 4
	kindPing         = 6
	kindWindowUpdate = 8

	flagEndStream  = 1
	flagAck        = 1
	flagEndHeaders = 4

	frameHead = 9
	preface   = 24
	window    = 1 << 30
	// From then on the connection's window is opened again.
	openAfter = 1 << 20
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[5:], stream)
	return append(head, payload...)
}

// A header that goes into no table (RFC 7541, section 6.2.2).
func header(name, value string) []byte {
	field := append([]byte{0, byte(len(name))}, name...)
	return append(append(field, byte(len(value))), value...)
}

type answer struct{ frames []byte }

func newAnswer(message []byte) answer {
	const indexedStatus200 = 0x88
	head := append([]byte{indexedStatus200}, header("content-type", "application/grpc")...)
	frames := frame(kindHeaders, flagEndHeaders, 0, head)
	framed := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	framed = append(framed, message...)
	for len(framed) > 0 {
		size := min(len(framed), 16384)
		frames = append(frames, frame(kindData, 0, 0, framed[:size])...)
		framed = framed[size:]
	}
	return answer{append(frames, frame(kindHeaders, flagEndHeaders|flagEndStream, 0, header("grpc-status", "0"))...)}
}

// The same frames for another stream.
func (a answer) to(stream uint32, out []byte) []byte {
	from := len(out)
	out = append(out, a.frames...)
	for at := from; at < len(out); {
		binary.BigEndian.PutUint32(out[at+5:], stream)
		at += frameHead + (int(out[at])<<16 | int(out[at+1])<<8 | int(out[at+2]))
	}
	return out
}

func serve(connection net.Conn, answer answer) error {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 1<<16)
	if _, err := reader.Discard(preface); err != nil {
		return err
	}
	opened := binary.BigEndian.AppendUint32(nil, window)
	settings := append([]byte{0, 4}, opened...) // initial window
	out := frame(kindSettings, 0, 0, settings)
	out = append(out, frame(kindWindowUpdate, 0, 0, opened)...)
	received := 0
	for {
		if reader.Buffered() < frameHead && len(out) > 0 {
			if _, err := connection.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
		head, err := reader.Peek(frameHead)
		if err != nil {
			return err
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		_, _ = reader.Discard(frameHead)
		if kind == kindPing && flags&flagAck == 0 {
			payload := make([]byte, length)
			if _, err := io.ReadFull(reader, payload); err != nil {
				return err
			}
			out = append(out, frame(kindPing, flagAck, 0, payload)...)
			continue
		}
		if _, err := reader.Discard(length); err != nil {
			return err
		}
		if kind == kindSettings && flags&flagAck == 0 {
			out = append(out, frame(kindSettings, flagAck, 0, nil)...)
		}
		if kind == kindData {
			if received += length; received > openAfter {
				out = append(out, frame(kindWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(received)))...)
				received = 0
			}
		}
		if (kind == kindData || kind == kindHeaders) && flags&flagEndStream != 0 {
			out = answer.to(stream, out)
		}
	}
}

func main() {
	message, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	answer := newAnswer(message)
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() { _ = serve(connection, answer) }()
	}
}
