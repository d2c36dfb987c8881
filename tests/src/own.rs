//! What this process holds: open files, threads, shared memory.

use std::collections::BTreeMap;
use std::fs;

use crate::proc::numbers_in;

/// The open file descriptors of this process and what each refers to, such as `pipe:[4711]`.
#[must_use]
pub fn open_fds() -> BTreeMap<u32, String> {
    // The descriptor that lists the directory is closed again, so that its link can no longer be read.
    let numbers = numbers_in("/proc/self/fd");
    let target = |fd| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
    numbers.into_iter().filter_map(|fd| Some((fd, target(fd)?.to_string_lossy().into_owned()))).collect()
}

/// The threads of this process: kernel id and name, of which the kernel keeps 15 bytes.
#[must_use]
pub fn threads() -> BTreeMap<u32, String> {
    let name = |tid| fs::read_to_string(format!("/proc/self/task/{tid}/comm")).ok();
    numbers_in("/proc/self/task")
        .into_iter()
        .filter_map(|tid| Some((tid, name(tid)?.trim_end().to_owned())))
        .collect()
}

/// The shared mappings of this process: address range and what is mapped, such as `/memfd:ring (deleted)`.
#[must_use]
pub fn shared_mappings() -> BTreeMap<String, String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(parse_shared_mapping).collect()
}

/// Range and path out of `range permissions offset device inode path`, if the mapping is a shared one.
fn parse_shared_mapping(line: &str) -> Option<(String, String)> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.split_once(' ')?;
        rest = after.trim_start();
        Some(field)
    };
    let range = field()?;
    let is_shared = field()?.ends_with('s');
    let (_offset, _device, _inode) = (field()?, field()?, field()?);
    is_shared.then(|| (range.to_owned(), rest.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse_shared_mapping;

    #[test]
    fn only_shared_mappings_count() {
        let shared = "7f00-7f10 rw-s 00000000 00:01 2051       /memfd:a ring (deleted)";
        let expected = ("7f00-7f10".to_owned(), "/memfd:a ring (deleted)".to_owned());
        assert_eq!(parse_shared_mapping(shared), Some(expected));
        assert_eq!(parse_shared_mapping("7f00-7f10 rw-p 00000000 00:00 0 "), None);
    }
}
