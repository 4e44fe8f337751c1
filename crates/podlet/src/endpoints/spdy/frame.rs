//! Frames of SPDY/3.1 as bytes. What a header block compresses to depends on all that were before it.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The bytes before a frame's content.
pub const HEAD: usize = 8;
/// A control frame is at most this long; kubectl's have some hundred bytes.
pub const MAX_CONTROL: usize = 64 << 10;
/// Headers are at most this long when they are unpacked, and so many.
const MAX_HEADERS: usize = 64 << 10;
const MAX_COUNT: u32 = 100;
/// Where a frame's length is, and the flag of one that is a stream's last.
const LENGTH: u32 = 0x00ff_ffff;
const FIN: u32 = 0x0100_0000;
/// The bit that tells control frames, and that with the version.
const CONTROL_BIT: u32 = 0x8000_0000;
const CONTROL: u32 = 0x8003_0000;
/// What header blocks refer to before anything was sent, as the protocol has it.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");

/// Names, in lower case, and values.
pub type Headers = Vec<(String, String)>;

/// The beginning of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Whether it is the last of its stream.
    pub last: bool,
    /// How long its content is.
    pub length: usize,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data of a stream.
    Data(u32),
    /// A control frame of this type.
    Control(u32),
}

/// A control frame, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A stream begins.
    Begin {
        /// Its number.
        stream: u32,
        /// What it is for.
        headers: Headers,
    },
    /// A stream is taken on.
    Reply {
        /// Its number.
        stream: u32,
    },
    /// A stream is given up.
    Reset {
        /// Its number.
        stream: u32,
    },
    /// A question for life.
    Ping(u32),
    /// No more streams.
    GoAway,
    /// Settings, windows and later headers, which nobody here needs.
    Other,
}

/// Why bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another version, or no SPDY.
    #[error("it is not SPDY/3")]
    Version,
    /// A frame that is shorter than what it is to hold.
    #[error("a frame is cut off")]
    Short,
    /// A frame or its headers take more room than any should.
    #[error("a frame is too large")]
    Large,
    /// Headers that can't be unpacked.
    #[error("headers can't be unpacked")]
    Headers,
}

/// Reads the beginning of a frame.
pub fn head(bytes: [u8; HEAD]) -> Result<Head, Malformed> {
    let mut rest = bytes.as_slice();
    let (what, how) = (word(&mut rest)?, word(&mut rest)?);
    let length = usize::try_from(how & LENGTH).map_err(|_| Malformed::Large)?;
    let kind = if what & CONTROL_BIT == 0 {
        Kind::Data(what)
    } else if what & 0xffff_0000 == CONTROL {
        Kind::Control(what & 0xffff)
    } else {
        return Err(Malformed::Version);
    };
    if matches!(kind, Kind::Control(_)) && length > MAX_CONTROL {
        return Err(Malformed::Large);
    }
    Ok(Head {
        kind,
        last: how & FIN != 0,
        length,
    })
}

/// Reads control frames, in the order in which they come.
#[derive(Debug)]
pub struct Reader(Decompress);

impl Default for Reader {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Reader {
    /// Reads the content of a control frame of this type.
    pub fn control(&mut self, kind: u32, content: &[u8]) -> Result<Control, Malformed> {
        let mut rest = content;
        Ok(match kind {
            1 => {
                let stream = stream(&mut rest)?;
                // The stream that it belongs to, a priority, a slot.
                take(&mut rest, 6)?;
                Control::Begin {
                    stream,
                    headers: self.headers(rest)?,
                }
            }
            2 => {
                let stream = stream(&mut rest)?;
                self.headers(rest)?;
                Control::Reply { stream }
            }
            3 => Control::Reset {
                stream: stream(&mut rest)?,
            },
            6 => Control::Ping(word(&mut rest)?),
            7 => Control::GoAway,
            8 => {
                stream(&mut rest)?;
                // Later blocks refer to it.
                self.headers(rest)?;
                Control::Other
            }
            _ => Control::Other,
        })
    }

    fn headers(&mut self, packed: &[u8]) -> Result<Headers, Malformed> {
        let unpacked = self.unpack(packed)?;
        let mut rest = unpacked.as_slice();
        let count = word(&mut rest)?;
        if count > MAX_COUNT {
            return Err(Malformed::Large);
        }
        let mut text = || {
            let length = usize::try_from(word(&mut rest)?).map_err(|_| Malformed::Large)?;
            Ok(String::from_utf8_lossy(take(&mut rest, length)?).into_owned())
        };
        (0..count)
            .map(|_| Ok((text()?.to_ascii_lowercase(), text()?)))
            .collect()
    }

    fn unpack(&mut self, mut packed: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut unpacked = Vec::with_capacity(1024);
        loop {
            if unpacked.len() == unpacked.capacity() {
                if unpacked.len() >= MAX_HEADERS {
                    return Err(Malformed::Large);
                }
                unpacked.reserve(unpacked.len());
            }
            let (before, had) = (self.0.total_in(), unpacked.len());
            let done = self
                .0
                .decompress_vec(packed, &mut unpacked, FlushDecompress::Sync);
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(packed.len());
            packed = packed.get(read..).unwrap_or_default();
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| Malformed::Headers)?;
                }
                Err(_) | Ok(Status::StreamEnd) => return Err(Malformed::Headers),
                // What there was has been read, and all that it stands for was written.
                Ok(_) if packed.is_empty() && unpacked.len() < unpacked.capacity() => return Ok(unpacked),
                Ok(_) if read == 0 && unpacked.len() == had && unpacked.len() < unpacked.capacity() => {
                    return Err(Malformed::Headers);
                }
                Ok(_) => {}
            }
        }
    }
}

/// Writes frames, in the order in which they go.
#[derive(Debug)]
pub struct Writer(Compress);

impl Writer {
    /// Of a new connection.
    pub fn new() -> Result<Self, Malformed> {
        let mut compress = Compress::new(Compression::default(), true);
        compress
            .set_dictionary(DICTIONARY)
            .map_err(|_| Malformed::Headers)?;
        Ok(Self(compress))
    }

    /// A stream begins, with these headers: that is for clients.
    #[cfg(test)]
    pub fn begin(&mut self, stream: u32, headers: &[(&str, &str)]) -> Result<Vec<u8>, Malformed> {
        let mut content = stream.to_be_bytes().to_vec();
        content.extend([0; 6]);
        content.extend(self.pack(headers)?);
        control(1, &content)
    }

    /// A stream is taken on.
    pub fn reply(&mut self, stream: u32) -> Result<Vec<u8>, Malformed> {
        let mut content = stream.to_be_bytes().to_vec();
        content.extend(self.pack(&[])?);
        control(2, &content)
    }

    fn pack(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, Malformed> {
        let length = |length: usize| u32::try_from(length).map_err(|_| Malformed::Large);
        let mut text = length(headers.len())?.to_be_bytes().to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend(length(part.len())?.to_be_bytes());
            text.extend(part.as_bytes());
        }
        // More than it can come to, with the dictionary's checksum and the end of the block.
        let mut packed = Vec::with_capacity(text.len() * 2 + 64);
        let before = self.0.total_in();
        self.0
            .compress_vec(&text, &mut packed, FlushCompress::Sync)
            .map_err(|_| Malformed::Headers)?;
        let read = usize::try_from(self.0.total_in() - before).unwrap_or_default();
        if read < text.len() || packed.len() == packed.capacity() {
            return Err(Malformed::Large);
        }
        Ok(packed)
    }
}

/// The beginning of a data frame.
pub fn data(stream: u32, length: usize, last: bool) -> Result<Vec<u8>, Malformed> {
    let flags = if last { FIN } else { 0 };
    beginning(stream & !CONTROL_BIT, length, flags)
}

/// A stream is given up.
pub fn reset(stream: u32, status: u32) -> Result<Vec<u8>, Malformed> {
    let content = [stream.to_be_bytes(), status.to_be_bytes()].concat();
    control(3, &content)
}

/// A question for life, or the answer to one.
pub fn ping(number: u32) -> Result<Vec<u8>, Malformed> {
    control(6, &number.to_be_bytes())
}

/// No more streams than up to this one.
pub fn go_away(last: u32) -> Result<Vec<u8>, Malformed> {
    let content = [last.to_be_bytes(), [0; 4]].concat();
    control(7, &content)
}

fn control(kind: u32, content: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut frame = beginning(CONTROL | kind, content.len(), 0)?;
    frame.extend(content);
    Ok(frame)
}

fn beginning(what: u32, length: usize, flags: u32) -> Result<Vec<u8>, Malformed> {
    let length = u32::try_from(length).ok().filter(|length| *length <= LENGTH);
    let how = length.ok_or(Malformed::Large)? | flags;
    Ok([what.to_be_bytes(), how.to_be_bytes()].concat())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
    *rest = left;
    Ok(taken)
}

fn word(rest: &mut &[u8]) -> Result<u32, Malformed> {
    let bytes = take(rest, 4)?;
    bytes
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| Malformed::Short)
}

fn stream(rest: &mut &[u8]) -> Result<u32, Malformed> {
    Ok(word(rest)? & 0x7fff_ffff)
}
