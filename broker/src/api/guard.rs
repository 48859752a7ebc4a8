//! Walks over a request before it is decoded: every length and every count must fit in the bytes that are there.
//!
//! The decoder reserves as many elements as an array claims to have, so that ten bytes could ask for gigabytes and end
//! the process. What passes here has only arrays whose elements are there, and no more of them than `ELEMENTS_MAX`.

use super::layout::{Field, Layout};

/// The most array elements and tagged fields of one request together. An element of two bytes takes about a hundred
/// when decoded: this, not the size of the frame, bounds what decoding costs.
pub const ELEMENTS_MAX: usize = 200_000;

/// Why a request is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a length or count is more than the bytes that are left")]
    Short,
    #[error("a length or count is negative")]
    Negative,
    #[error("more than {ELEMENTS_MAX} elements in one request")]
    Elements,
    #[error("a tagged field is not as long as it says")]
    Tagged,
}

/// Checks the body of a request; what is left after it.
pub fn walk<'a>(layout: &Layout, version: i16, body: &'a [u8]) -> Result<&'a [u8], Malformed> {
    let flexible = version >= layout.flexible;
    let mut walker = Walker { rest: body, version, flexible, elements: ELEMENTS_MAX };
    walker.fields(layout.fields)?;
    walker.tags(layout.tags)?;
    Ok(walker.rest)
}

/// Passes tagged fields, as at the end of a request's header; what is left after them.
pub fn walk_tags(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut walker = Walker { rest: bytes, version: 0, flexible: true, elements: ELEMENTS_MAX };
    walker.tags(&[])?;
    Ok(walker.rest)
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walker<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        fields.iter().try_for_each(|field| self.field(field))
    }

    fn field(&mut self, field: &Field) -> Result<(), Malformed> {
        match *field {
            Field::Fixed(size) => self.skip(size),
            Field::Text => {
                let length = if self.flexible { self.compact_length()? } else { self.length16()? };
                self.skip(length.unwrap_or(0))
            }
            Field::Data => {
                let length = self.length32()?;
                self.skip(length.unwrap_or(0))
            }
            Field::List(element) => self.array(|walker| walker.field(element)),
            Field::Structs(fields) => self.array(|walker| walker.structure(fields)),
            Field::Maybe(fields) => match self.take(1)?[0] {
                1 => self.structure(fields),
                _ => Ok(()),
            },
            Field::Struct(fields) => self.structure(fields),
            Field::Since(first, field) => self.when(self.version >= first, field),
            Field::Until(last, field) => self.when(self.version <= last, field),
            Field::Between(first, last, field) => self.when((first..=last).contains(&self.version), field),
        }
    }

    fn when(&mut self, present: bool, field: &Field) -> Result<(), Malformed> {
        if present { self.field(field) } else { Ok(()) }
    }

    fn structure(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        self.fields(fields)?;
        self.tags(&[])
    }

    fn array(&mut self, element: impl Fn(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let count = self.length32()?.unwrap_or(0);
        self.count(count)?;
        (0..count).try_for_each(|_| element(self))
    }

    fn tags(&mut self, known: &[(u32, Field)]) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()? as usize;
        self.count(count)?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let value = self.take(size)?;
            if let Some((_, field)) = known.iter().find(|(known, _)| *known == tag) {
                let mut inner = Walker { rest: value, ..*self };
                inner.field(field)?;
                if !inner.rest.is_empty() {
                    return Err(Malformed::Tagged);
                }
                self.elements = inner.elements;
            }
        }
        Ok(())
    }

    /// Every element is at least a byte.
    fn count(&mut self, count: usize) -> Result<(), Malformed> {
        if count > self.rest.len() {
            return Err(Malformed::Short);
        }
        self.elements = self.elements.checked_sub(count).ok_or(Malformed::Elements)?;
        Ok(())
    }

    /// A length of four bytes, or compact; None: null.
    fn length32(&mut self) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return self.compact_length();
        }
        let bytes = self.take(4)?.try_into().expect("four bytes were taken");
        plain_length(i64::from(i32::from_be_bytes(bytes)))
    }

    fn length16(&mut self) -> Result<Option<usize>, Malformed> {
        let bytes = self.take(2)?.try_into().expect("two bytes were taken");
        plain_length(i64::from(i16::from_be_bytes(bytes)))
    }

    /// One more than the length; 0: null.
    fn compact_length(&mut self) -> Result<Option<usize>, Malformed> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    /// As the decoder reads it: at most five bytes, bits past the 32nd are lost.
    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = u32::from(self.take(1)?[0]);
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn skip(&mut self, size: usize) -> Result<(), Malformed> {
        self.take(size).map(|_| ())
    }
}

impl<'a> Walker<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn plain_length(length: i64) -> Result<Option<usize>, Malformed> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| Malformed::Negative),
    }
}

#[cfg(test)]
mod tests;
