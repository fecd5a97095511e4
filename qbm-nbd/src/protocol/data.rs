//! Reading numbers and strings from bytes of a known length.

/// Bytes of an option or request that do not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The bytes not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Data<'b>(pub &'b [u8]);

impl<'b> Data<'b> {
    /// The next `count` bytes.
    ///
    /// # Errors
    ///
    /// If there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next two bytes as a number.
    ///
    /// # Errors
    ///
    /// If there are fewer.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next four bytes as a number.
    ///
    /// # Errors
    ///
    /// If there are fewer.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next eight bytes as a number.
    ///
    /// # Errors
    ///
    /// If there are fewer.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string after its length in four bytes.
    ///
    /// # Errors
    ///
    /// If it is longer than what is left, or not UTF-8.
    pub fn string(&mut self) -> Result<&'b str, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }

    /// That there is nothing left.
    ///
    /// # Errors
    ///
    /// If there is.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("as many as asked for"))
    }
}
