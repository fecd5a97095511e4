//! Whole transfers out of calls that may do a part of one, or be interrupted by a signal.

use std::io;

/// Fills `buffer` from `offset` by `read`; past the end of the file there are zeroes.
pub(crate) fn read(
    buffer: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match read(&mut buffer[done..], offset + done as u64) {
            Ok(0) => {
                buffer[done..].fill(0);
                return Ok(());
            }
            result => done += part(result)?,
        }
    }
    Ok(())
}

/// Writes `bytes` at `offset` by `write`.
pub(crate) fn write(
    bytes: &[u8],
    offset: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match write(&bytes[done..], offset + done as u64) {
            // It would never end.
            Ok(0) => return Err(io::ErrorKind::StorageFull.into()),
            result => done += part(result)?,
        }
    }
    Ok(())
}

/// How much a call did: nothing, if a signal came before it.
fn part(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    const FILE: [u8; 100] = [7; 100];

    /// A call that is interrupted every other time, and otherwise does at most three bytes.
    fn awkward(calls: &mut u32, length: usize) -> io::Result<usize> {
        *calls += 1;
        if *calls % 2 == 1 { Err(Errno::INTR.into()) } else { Ok(length.min(3)) }
    }

    #[test]
    fn short_and_interrupted_calls_go_on_where_they_ended() {
        let (mut calls, mut buffer) = (0, [1; 20]);
        let done = read(&mut buffer, 90, |part, offset| {
            let start = usize::try_from(offset).unwrap();
            let count = awkward(&mut calls, part.len().min(FILE.len() - start))?;
            part[..count].copy_from_slice(&FILE[start..start + count]);
            Ok(count)
        });
        done.unwrap();
        assert_eq!(buffer, [[7; 10], [0; 10]].concat()[..]);
        assert_eq!(calls, 10, "four parts and the end, each after an interruption");

        let (mut calls, mut file) = (0, vec![0; 30]);
        let done = write(&FILE[..20], 5, |part, offset| {
            let count = awkward(&mut calls, part.len())?;
            let start = usize::try_from(offset).unwrap();
            file[start..start + count].copy_from_slice(&part[..count]);
            Ok(count)
        });
        done.unwrap();
        assert_eq!(file, [&[0; 5][..], &[7; 20], &[0; 5]].concat());
        assert_eq!(calls, 14);
    }

    #[test]
    fn any_other_error_ends_a_transfer_also_after_a_part_of_it() {
        for errno in [Errno::IO, Errno::NOSPC, Errno::AGAIN, Errno::ROFS, Errno::STALE] {
            let mut calls = 0;
            let mut fails = |_length: usize| {
                calls += 1;
                if calls % 2 == 1 { Ok(2) } else { Err(errno.into()) }
            };
            let error = write(&FILE, 0, |part, _| fails(part.len())).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
            let error = read(&mut [0; 9], 0, |part, _| fails(part.len())).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
            assert_eq!(calls, 4, "none is tried again");
        }
    }

    #[test]
    fn a_write_that_gets_nowhere_ends() {
        let error = write(&FILE, 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
