//! Serialised protobuf messages as writers usually write them. Whatever else protobuf would accept (tags of several
//! bytes, groups, numbers longer than need be) is [`Unusual`], and for the protobuf runtime to read.

use crate::Unusual;

/// A field: its number, and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub number: u8,
    pub payload: Payload<'a>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    Number(u64),
    Fixed64,
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// Bytes, where it is that.
    pub fn bytes(self) -> Result<&'a [u8], Unusual> {
        match self {
            Payload::Bytes(bytes) => Ok(bytes),
            Payload::Number(_) | Payload::Fixed64 => Err(Unusual::Encoding),
        }
    }

    /// Text, where it is that.
    pub fn text(self) -> Result<&'a str, Unusual> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unusual::Encoding)
    }
}

/// The fields of a message, one after the other.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    /// The next field; None at the end.
    pub fn next(&mut self) -> Result<Option<Field<'a>>, Unusual> {
        let Some((&tag, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let number = tag >> 3;
        if tag & 0x80 != 0 || number == 0 {
            return Err(Unusual::Encoding);
        }
        let payload = match tag & 7 {
            0 => Payload::Number(self.number()?),
            1 => {
                self.rest = self.rest.get(8..).ok_or(Unusual::Encoding)?;
                Payload::Fixed64
            }
            2 => Payload::Bytes(self.bytes()?),
            _ => return Err(Unusual::Encoding),
        };
        Ok(Some(Field { number, payload }))
    }

    /// A number as far as `self.rest` starts with one, in as few bytes as it takes.
    ///
    /// Readers differ in how many more they take: protobuf's own read a length of five bytes, and refuse one of six.
    pub fn number(&mut self) -> Result<u64, Unusual> {
        let mut value = 0u64;
        for (at, &byte) in self.rest.iter().enumerate().take(9) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                if byte == 0 && at > 0 {
                    break;
                }
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Unusual::Encoding)
    }

    /// Whether the next field is this one, of bytes.
    pub fn is_at_bytes(&self, number: u8) -> bool {
        self.rest.first() == Some(&(number << 3 | 2))
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unusual> {
        let length = usize::try_from(self.number()?).map_err(|_| Unusual::Encoding)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Unusual::Encoding)?;
        self.rest = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Result<Vec<Field<'_>>, Unusual> {
        let mut fields = Fields::of(message);
        let mut found = Vec::new();
        while let Some(field) = fields.next()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn fields_come_in_their_order() {
        let fields = all(b"\x0a\x01m\x18\xac\x02").unwrap();
        assert_eq!(
            fields[0],
            Field {
                number: 1,
                payload: Payload::Bytes(b"m")
            }
        );
        assert_eq!(
            fields[1],
            Field {
                number: 3,
                payload: Payload::Number(300)
            }
        );
        assert_eq!(fields[0].payload.text(), Ok("m"));
        assert_eq!(fields[1].payload.text(), Err(Unusual::Encoding));
        assert_eq!(
            all(b"\x09\x00\x00\x00\x00\x00\x00\x00\x00").unwrap()[0].payload,
            Payload::Fixed64
        );
        assert_eq!(all(b""), Ok(vec![]));
    }

    #[test]
    fn what_writers_do_not_write_is_unusual() {
        for message in [
            &b"\x8a\x00\x01m"[..],                           // a tag of two bytes
            b"\x02\x01m",                                    // field 0
            b"\x0b\x0c",                                     // a group
            b"\x0d\x00\x00\x00\x00",                         // fixed32
            b"\x09\x00\x00\x00\x00\x00\x00\x00",             // fixed64, a byte short
            b"\x0a\x02m",                                    // shorter than it says
            b"\x0a",                                         // no length
            b"\x0a\x81\x00m",                                // a length of more bytes than it takes
            b"\x18\x80\x00",                                 // a number of more bytes than it takes
            b"\x18\xff",                                     // a number that does not end
            b"\x80",                                         // a tag that does not end
            b"\x0e",                                         // no such wire type
            b"\x0c",                                         // the end of a group
            b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // ten bytes, a negative number
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fm",    // a length beyond all memory
        ] {
            assert_eq!(all(message), Err(Unusual::Encoding), "{message:?}");
        }
    }

    #[test]
    fn numbers_have_up_to_nine_bytes() {
        let largest = (1u64 << 63) - 1;
        let fields = all(b"\x18\x00\x18\x7f\x18\x80\x01\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f").unwrap();
        let numbers: Vec<_> = fields.iter().map(|field| field.payload).collect();
        assert_eq!(numbers, [0, 127, 128, largest].map(Payload::Number));
        assert_eq!(Payload::Fixed64.bytes(), Err(Unusual::Encoding));
    }

    #[test]
    fn text_is_utf8() {
        assert_eq!(Payload::Bytes(b"\xff").text(), Err(Unusual::Encoding));
    }
}
