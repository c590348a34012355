//! Tools that move bytes: through stdin and stdout, from and to files. Nothing here changes a byte on its way.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use nix::sys::socket::{MsgFlags, accept, send};
use sha2::{Digest, Sha256};

use crate::{Outcome, number, one, wrong_usage};

/// Large enough to fill a pipe in one call.
const CHUNK: usize = 64 * 1024;

fn write_words(mut out: impl Write, words: &[OsString]) -> io::Result<()> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut line = words.join(&b' ');
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// The words, separated by blanks, and a newline; in one write call where the kernel lets it be one.
pub fn echo(args: &[OsString]) -> Outcome {
    write_words(io::stdout().lock(), args)?;
    Ok(0)
}

/// Sends a datagram to a socket.
pub fn say(args: &[OsString]) -> Outcome {
    let [path, text] = args else {
        return Err(wrong_usage());
    };
    UnixDatagram::unbound()?.send_to(text.as_bytes(), path)?;
    Ok(0)
}

/// Takes one connection from a listening socket that it was given, and writes there.
pub fn greet(args: &[OsString]) -> Outcome {
    let [fd, text] = args else {
        return Err(wrong_usage());
    };
    let stream = accept(number(fd)?)?;
    send(stream, text.as_bytes(), MsgFlags::empty())?;
    Ok(0)
}

/// The same on stderr.
pub fn warn(args: &[OsString]) -> Outcome {
    write_words(io::stderr().lock(), args)?;
    Ok(0)
}

fn pour(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return to.flush(),
            Ok(n) => {
                to.write_all(&chunk[..n])?;
                // Interactive tests read an answer before they write on: nothing may wait for a full buffer.
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Files one after the other, or stdin when there are none, to stdout.
pub fn cat(args: &[OsString]) -> Outcome {
    let out = io::stdout().lock();
    if args.is_empty() {
        pour(io::stdin().lock(), out)?;
        return Ok(0);
    }
    let mut out = out;
    for path in args {
        pour(File::open(path)?, &mut out)?;
    }
    Ok(0)
}

/// One file to stdout.
pub fn read(args: &[OsString]) -> Outcome {
    pour(File::open(one(args)?)?, io::stdout().lock())?;
    Ok(0)
}

fn put(args: &[OsString], options: &OpenOptions) -> Outcome {
    let [path, text] = args else {
        return Err(wrong_usage());
    };
    options.open(path)?.write_all(text.as_bytes())?;
    Ok(0)
}

/// TEXT, without a newline, becomes the content of PATH. Also for `/dev/stdout`: it is opened anew, which a socket refuses.
pub fn write(args: &[OsString]) -> Outcome {
    put(
        args,
        OpenOptions::new().write(true).create(true).truncate(true),
    )
}

/// TEXT at the end of PATH, which is made when missing.
pub fn append(args: &[OsString]) -> Outcome {
    put(args, OpenOptions::new().append(true).create(true))
}

/// BYTES bytes on stdout; the byte at offset `i` is `i % 251`, a prime, so that a lost or doubled block shows.
pub fn flood(args: &[OsString]) -> Outcome {
    let total: u64 = number(one(args)?)?;
    // 251 whole pages: every chunk starts at the same phase of the pattern.
    let pattern: Vec<u8> = (0..251usize * 4096)
        .map(|i| u8::try_from(i % 251).unwrap_or_default())
        .collect();
    let mut out = io::stdout().lock();
    let mut left = total;
    while left > 0 {
        let n = usize::try_from(left).map_or(pattern.len(), |left| left.min(pattern.len()));
        out.write_all(&pattern[..n])?;
        left -= n as u64;
    }
    out.flush()?;
    Ok(0)
}

/// Reads stdin to its end and prints `COUNT SHA256`.
pub fn sink(_: &[OsString]) -> Outcome {
    let mut digest = Sha256::new();
    let mut count = 0u64;
    let mut chunk = vec![0; CHUNK];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                digest.update(&chunk[..n]);
                count += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{count} {:x}", digest.finalize())?;
    out.flush()?;
    Ok(0)
}
