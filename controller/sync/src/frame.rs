//! Newline-delimited JSON: one value per line.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line that felix takes, in octets: a snapshot of a very large node has a few million.
pub const MAX_LINE: usize = 256 << 20;

/// How much of a bad line an error shows.
const EXCERPT: usize = 60;

/// One value as a line, newline included.
///
/// # Panics
/// Never for this crate's messages: their map keys all become strings.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("messages have string keys only");
    line.push(b'\n');
    line
}

/// Cuts a stream of octets, as it arrives, into lines and these into values. Empty lines are skipped.
#[derive(Debug)]
pub struct Decoder<T> {
    buffer: Vec<u8>,
    /// Where in `buffer` the present line begins.
    start: usize,
    /// Up to where in `buffer` there is no newline.
    searched: usize,
    /// Lines read so far.
    lines: u64,
    max_line: usize,
    value: PhantomData<fn() -> T>,
}

/// A line that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not JSON, or not the value that was expected.
    #[error("line {line} of the stream is not understood: {reason}; it begins `{excerpt}`")]
    Garbage {
        /// Which line, from 1.
        line: u64,
        /// What the parser said.
        reason: String,
        /// The beginning of the line.
        excerpt: String,
    },
    /// More octets than a line may have, and no end.
    #[error("line {line} of the stream is longer than {max} octets")]
    TooLong {
        /// Which line, from 1.
        line: u64,
        /// What is allowed.
        max: usize,
    },
    /// The stream ended within a line.
    #[error("the stream broke off in line {line}, after {octets} octets of it")]
    Truncated {
        /// Which line, from 1.
        line: u64,
        /// Octets of the unfinished line.
        octets: usize,
    },
}

impl<T: DeserializeOwned> Decoder<T> {
    /// Takes lines of up to `max_line` octets.
    pub fn new(max_line: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            lines: 0,
            max_line,
            value: PhantomData,
        }
    }

    /// Takes what arrived.
    pub fn push(&mut self, octets: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(octets);
    }

    /// The next whole line's value, or `None` until more arrives.
    ///
    /// # Errors
    /// [`FrameError::Garbage`] (that line is skipped then) or [`FrameError::TooLong`] (nothing more
    /// can be read).
    pub fn next_value(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            let unsearched = &self.buffer[self.searched..];
            let Some(length) = unsearched.iter().position(|octet| *octet == b'\n') else {
                self.searched = self.buffer.len();
                return self
                    .check_length(self.buffer.len() - self.start)
                    .map(|()| None);
            };
            let end = self.searched + length;
            self.check_length(end - self.start)?;
            let line = &self.buffer[self.start..end];
            self.lines += 1;
            self.start = end + 1;
            self.searched = self.start;
            if !line.trim_ascii().is_empty() {
                return serde_json::from_slice(line).map(Some).map_err(|error| {
                    FrameError::Garbage {
                        line: self.lines,
                        reason: error.to_string(),
                        excerpt: excerpt(line),
                    }
                });
            }
        }
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if it ended within a line.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.buffer.len() - self.start {
            0 => Ok(()),
            octets => Err(FrameError::Truncated {
                line: self.lines + 1,
                octets,
            }),
        }
    }

    fn check_length(&self, length: usize) -> Result<(), FrameError> {
        if length > self.max_line {
            return Err(FrameError::TooLong {
                line: self.lines + 1,
                max: self.max_line,
            });
        }
        Ok(())
    }
}

/// The beginning of a line, for people.
fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(EXCERPT)]);
    let mut excerpt: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if line.len() > EXCERPT {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests;
