// A model server for benchmarks: knows a request by its size, and answers every request of a size with the same message.
//
// It speaks just enough HTTP/2 for that and does not look into requests, so that it takes little of the core that it
// shares with the load: what is measured is the proxy before it. Not for anything else. It keeps to the connection's
// flow control, and gives up a connection whose streams have no room for an answer. What it counts can be read, so
// that a benchmark knows which of its requests came through: a load generator takes a gRPC error for a success.
//
// usage: upstream_echo <host:port> <host:port for the counts> <request bytes>:<file with the answer> ...
//
// Sizes are of messages, without gRPC's five bytes. Who connects to the second address gets one line for each size,
// "<request bytes> <answered>", and the lines "unknown <calls>" and "reset <streams>".
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	kindData         = 0
	kindHeaders      = 1
	kindReset        = 3
	kindSettings     = 4
	kindPing         = 6
	kindWindowUpdate = 8

	flagEndStream  = 1
	flagAck        = 1
	flagEndHeaders = 4

	settingInitialWindow = 4

	frameHead     = 9
	grpcHead      = 5
	preface       = 24
	initialWindow = 65535
	window        = 1 << 30
	// From then on the connection's window is opened again.
	openAfter = 1 << 20

	statusOk            = "0"
	statusUnimplemented = "12"
)

// The same frames for every stream; size is what they take of windows.
type answer struct {
	frames []byte
	size   int
	count  atomic.Int64
}

type server struct {
	answers map[int]*answer
	unknown *answer
	resets  atomic.Int64
}

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

func responseHead() []byte {
	const indexedStatus200 = 0x88
	return append([]byte{indexedStatus200}, header("content-type", "application/grpc")...)
}

func newAnswer(message []byte) *answer {
	frames := frame(kindHeaders, flagEndHeaders, 0, responseHead())
	framed := make([]byte, grpcHead, grpcHead+len(message))
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	framed = append(framed, message...)
	size := len(framed)
	for len(framed) > 0 {
		part := min(len(framed), 16384)
		frames = append(frames, frame(kindData, 0, 0, framed[:part])...)
		framed = framed[part:]
	}
	end := frame(kindHeaders, flagEndHeaders|flagEndStream, 0, header("grpc-status", statusOk))
	return &answer{frames: append(frames, end...), size: size}
}

func newError() *answer {
	head := append(responseHead(), header("grpc-status", statusUnimplemented)...)
	return &answer{frames: frame(kindHeaders, flagEndHeaders|flagEndStream, 0, head)}
}

func (a *answer) to(stream uint32, out []byte) []byte {
	from := len(out)
	out = append(out, a.frames...)
	for at := from; at < len(out); {
		binary.BigEndian.PutUint32(out[at+5:], stream)
		at += frameHead + (int(out[at])<<16 | int(out[at+1])<<8 | int(out[at+2]))
	}
	return out
}

type waiting struct {
	stream uint32
	answer *answer
}

type connection struct {
	server   *server
	reader   *bufio.Reader
	net      net.Conn
	out      []byte
	asked    map[uint32]int // bytes of open requests
	waiting  []waiting
	window   int // what the peer lets us send
	received int
}

func (s *server) serve(accepted net.Conn) error {
	defer accepted.Close()
	c := connection{
		server: s, net: accepted, reader: bufio.NewReaderSize(accepted, 1<<16), asked: map[uint32]int{}, window: initialWindow,
	}
	if _, err := c.reader.Discard(preface); err != nil {
		return err
	}
	opened := binary.BigEndian.AppendUint32(nil, window)
	c.out = frame(kindSettings, 0, 0, append([]byte{0, settingInitialWindow}, opened...))
	c.out = append(c.out, frame(kindWindowUpdate, 0, 0, opened)...)
	for {
		if err := c.step(); err != nil {
			return err
		}
	}
}

// One frame; what is to be sent goes out when nothing more is there to be read.
func (c *connection) step() error {
	if c.reader.Buffered() < frameHead && len(c.out) > 0 {
		if _, err := c.net.Write(c.out); err != nil {
			return err
		}
		c.out = c.out[:0]
	}
	head, err := c.reader.Peek(frameHead)
	if err != nil {
		return err
	}
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
	_, _ = c.reader.Discard(frameHead)
	if kind == kindData || kind == kindHeaders {
		if _, err := c.reader.Discard(length); err != nil {
			return err
		}
		c.part(kind, flags, stream, length)
	} else {
		payload := make([]byte, length)
		if _, err := io.ReadFull(c.reader, payload); err != nil {
			return err
		}
		if err := c.control(kind, flags, stream, payload); err != nil {
			return err
		}
	}
	c.answerWaiting()
	return nil
}

// A part of a request.
func (c *connection) part(kind, flags byte, stream uint32, length int) {
	if kind == kindData {
		c.asked[stream] += length
		if c.received += length; c.received > openAfter {
			opened := binary.BigEndian.AppendUint32(nil, uint32(c.received))
			c.out = append(c.out, frame(kindWindowUpdate, 0, 0, opened)...)
			c.received = 0
		}
	}
	if flags&flagEndStream == 0 {
		return
	}
	known := c.server.answers[c.asked[stream]-grpcHead]
	delete(c.asked, stream)
	if known == nil {
		known = c.server.unknown
	}
	c.waiting = append(c.waiting, waiting{stream, known})
}

func (c *connection) control(kind, flags byte, stream uint32, payload []byte) error {
	switch {
	case kind == kindReset:
		delete(c.asked, stream)
		c.server.resets.Add(1)
	case kind == kindPing && flags&flagAck == 0:
		c.out = append(c.out, frame(kindPing, flagAck, 0, payload)...)
	case kind == kindWindowUpdate && stream == 0 && len(payload) == 4:
		c.window += int(binary.BigEndian.Uint32(payload))
	case kind == kindSettings && flags&flagAck == 0:
		c.out = append(c.out, frame(kindSettings, flagAck, 0, nil)...)
		return c.server.haveRoom(payload)
	}
	return nil
}

// Whether every answer fits into the window that a stream begins with.
func (s *server) haveRoom(settings []byte) error {
	for ; len(settings) >= 6; settings = settings[6:] {
		if binary.BigEndian.Uint16(settings) != settingInitialWindow {
			continue
		}
		room := int(binary.BigEndian.Uint32(settings[2:]))
		for size, known := range s.answers {
			if known.size > room {
				err := fmt.Errorf("streams begin with %d bytes, the answer to %d bytes takes %d", room, size, known.size)
				log.Print(err)
				return err
			}
		}
	}
	return nil
}

func (c *connection) answerWaiting() {
	for len(c.waiting) > 0 && c.waiting[0].answer.size <= c.window {
		next := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.window -= next.answer.size
		c.out = next.answer.to(next.stream, c.out)
		next.answer.count.Add(1)
	}
}

func (s *server) counts() string {
	var lines strings.Builder
	for size, known := range s.answers {
		fmt.Fprintf(&lines, "%d %d\n", size, known.count.Load())
	}
	fmt.Fprintf(&lines, "unknown %d\nreset %d\n", s.unknown.count.Load(), s.resets.Load())
	return lines.String()
}

func newServer(arguments []string) (*server, error) {
	made := &server{answers: map[int]*answer{}, unknown: newError()}
	for _, argument := range arguments {
		size, path, _ := strings.Cut(argument, ":")
		bytes, err := strconv.Atoi(size)
		if err != nil {
			return nil, err
		}
		message, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if made.answers[bytes] != nil {
			return nil, fmt.Errorf("two answers for requests of %d bytes", bytes)
		}
		made.answers[bytes] = newAnswer(message)
	}
	return made, nil
}

func accept(address string, handle func(net.Conn)) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go handle(connection)
	}
}

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: upstream_echo <host:port> <host:port for the counts> <request bytes>:<file with the answer> ...")
	}
	made, err := newServer(os.Args[3:])
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		log.Fatal(accept(os.Args[2], func(asking net.Conn) {
			_, _ = io.WriteString(asking, made.counts())
			_ = asking.Close()
		}))
	}()
	log.Fatal(accept(os.Args[1], func(calling net.Conn) { _ = made.serve(calling) }))
}
