//! What every target begins with: the golden messages, packets and manifests of the other tests.

use std::fs;
use std::io;
use std::path::Path;

/// Writes the seeds of every target into its folder of the corpus.
pub(crate) fn seed(corpus: &Path, workspace: &Path) -> io::Result<()> {
    let mut messages = Vec::new();
    for file in fs::read_dir(workspace.join("bgp-speaker/tests/wire/golden"))? {
        let text = fs::read_to_string(file?.path())?;
        let hex = text.lines().filter(|line| !line.starts_with('#'));
        messages.extend(hex.filter_map(|line| octets(line.rsplit(' ').next()?)));
    }
    let mut stream = vec![7];
    for (number, message) in messages.iter().enumerate() {
        stream.extend(message);
        let (Some(kind), Some(body)) = (message.get(18), message.get(19..)) else {
            continue;
        };
        match kind {
            1 => {
                write(corpus, "open", number, body)?;
                for (part, capability) in capabilities(body.get(10..).unwrap_or_default()).enumerate() {
                    write(corpus, "capability", number * 100 + part, &capability)?;
                }
            }
            2 => {
                write(corpus, "update", number, body)?;
                for (part, attribute) in attributes(body).enumerate() {
                    write(corpus, "attribute", number * 100 + part, &attribute)?;
                }
                // Accept the external peer, exchange OPENs, tell it this.
                let mut script = vec![0, 0, 3, 0, 6, 0, 7, u8::try_from(body.len() / 4).unwrap_or(255)];
                script.extend(body.get(..body.len() / 4 * 4).unwrap_or_default());
                script.extend([8, 0, 0, 40]);
                write(corpus, "speaker", number, &script)?;
            }
            3 | 5 => write(corpus, "notification", number, body)?,
            _ => {}
        }
        write(corpus, "framer", number, &[&[19], &message[..]].concat())?;
    }
    write(corpus, "framer", 9999, &stream)?;
    let kept = fs::read_to_string(workspace.join("tests/tests/kernel/corpus.txt"))?;
    for (number, script) in kept.lines().filter_map(octets).enumerate() {
        write(corpus, "packet", number, &script)?;
    }
    for (number, file) in fs::read_dir(workspace.join("tests/scenario"))?.enumerate() {
        write(corpus, "crds", number, &fs::read(file?.path())?)?;
    }
    Ok(())
}

fn write(corpus: &Path, target: &str, number: usize, octets: &[u8]) -> io::Result<()> {
    let folder = corpus.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("golden-{number}")), octets)
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Code and value of each capability; parameters are taken to be capabilities.
fn capabilities(parameters: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut all = Vec::new();
    let mut rest = parameters;
    while let [_, length, tail @ ..] = rest {
        let (parameter, next) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = next;
        let mut inside = parameter;
        while let [code, length, tail @ ..] = inside {
            let (value, next) = tail.split_at(usize::from(*length).min(tail.len()));
            all.push([&[*code], value].concat());
            inside = next;
        }
    }
    all.into_iter()
}

/// Each attribute of an UPDATE that withdraws nothing.
fn attributes(body: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut all = Vec::new();
    if let [0, 0, high, low, rest @ ..] = body {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let mut rest = &rest[..length];
        loop {
            let header = match rest {
                [flags, _, high, low, ..] if flags & 0x10 != 0 => {
                    4 + usize::from(u16::from_be_bytes([*high, *low]))
                }
                [_, _, length, ..] => 3 + usize::from(*length),
                _ => break,
            };
            let (one, next) = rest.split_at(header.min(rest.len()));
            all.push(one.to_vec());
            rest = next;
        }
    }
    all.into_iter()
}
