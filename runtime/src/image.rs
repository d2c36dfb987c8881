//! Which program this is, and whether a child would be the same one.
//!
//! A child is `/proc/self/exe`: the file that this process runs, even if it was replaced or deleted since. The
//! two compare what they are before anything is called by its place in memory.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::error::{Cause, Stage};
use crate::sys::{self, LoadedImage};

/// What tells one program from another: what its linker called it, or, if it did not, which file it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Identity {
    BuildId(Vec<u8>),
    File { device: u64, inode: u64, size: i64, modified: (i64, u64) },
}

impl Identity {
    fn of(loaded: &LoadedImage) -> Result<Self, Cause> {
        if let Some(build_id) = &loaded.build_id {
            return Ok(Self::BuildId(build_id.clone()));
        }
        let file = rustix::fs::stat("/proc/self/exe").map_err(|error| {
            Cause::system(Stage::Image, "cannot look at /proc/self/exe (is /proc mounted?)", &error.into())
        })?;
        let modified = (file.st_mtime, file.st_mtime_nsec);
        Ok(Self::File { device: file.st_dev, inode: file.st_ino, size: file.st_size, modified })
    }
}

/// The image that this code is in.
#[derive(Debug)]
pub(crate) struct Image {
    loaded: LoadedImage,
    pub(crate) identity: Identity,
}

impl Image {
    /// The image of this process, looked up once.
    pub(crate) fn this() -> Result<&'static Self, Cause> {
        static THIS: OnceLock<Result<Image, Cause>> = OnceLock::new();
        THIS.get_or_init(Self::look_up).as_ref().map_err(Cause::clone)
    }

    fn look_up() -> Result<Self, Cause> {
        let loaded = sys::loaded_image()
            .ok_or_else(|| Cause::start(Stage::Image, "the dynamic linker does not know this code"))?;
        let identity = Identity::of(&loaded)?;
        Ok(Self { loaded, identity })
    }

    /// Checks that a child, which runs `/proc/self/exe`, would run this very code: it would not in a library
    /// that another program has loaded, nor under an explicitly called dynamic linker.
    pub(crate) fn check_that_children_share_it(&self) -> Result<(), Cause> {
        static CHECK: OnceLock<Result<(), Cause>> = OnceLock::new();
        CHECK.get_or_init(|| self.compare_with_program()).clone()
    }

    fn compare_with_program(&self) -> Result<(), Cause> {
        let read = |what, error: &io::Error| Cause::system(Stage::Image, what, error);
        let program =
            std::fs::read_link("/proc/self/exe").map_err(|e| read("cannot read /proc/self/exe", &e))?;
        let maps = std::fs::read("/proc/self/maps").map_err(|e| read("cannot read /proc/self/maps", &e))?;
        match file_mapped_at(&maps, self.loaded.memory.start) {
            Some(file) if file == escaped(&program) => Ok(()),
            other => Err(Cause::start(
                Stage::Image,
                format!(
                    "a child would run {}, but this code is in {}: Procession works in the program itself only",
                    program.display(),
                    other.map_or_else(|| "no file".into(), String::from_utf8_lossy),
                ),
            )),
        }
    }

    /// Where an entry is, as a child can find it.
    pub(crate) fn distance(&self, entry: &'static Entry) -> Result<i64, Cause> {
        sys::distance(entry, &self.loaded).ok_or_else(|| {
            let reason =
                format!("{} is not in the program, but in a library that it has loaded", entry.place);
            Cause::start(Stage::Image, reason)
        })
    }

    /// The entry that the parent has told by its distance.
    pub(crate) fn entry_at(&self, distance: i64) -> Option<&'static Entry> {
        sys::entry_at(distance, &self.loaded)
    }
}

/// The file behind an address, as the lines of `proc_pid_maps(5)` tell it: `start-end perms offset dev inode path`.
fn file_mapped_at(maps: &[u8], address: usize) -> Option<&[u8]> {
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        let range = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        let path = line.iter().position(|byte| *byte == b'/')?;
        (start..end).contains(&address).then(|| &line[path..])
    })
}

/// A path as the kernel writes it into the maps, where a line ends at its newline.
fn escaped(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\\012"[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"1000-2000 r--p 00000000 fe:00 17 /opt/a program\n\
                          2000-3000 rw-p 00000000 00:00 0\n\
                          3000-4000 r-xp 00001000 fe:00 18 /lib/x.so (deleted)\n";

    #[test]
    fn files_by_address() {
        assert_eq!(file_mapped_at(MAPS, 0x1000), Some(&b"/opt/a program"[..]));
        assert_eq!(file_mapped_at(MAPS, 0x3fff), Some(&b"/lib/x.so (deleted)"[..]));
        assert_eq!(file_mapped_at(MAPS, 0x2000), None);
        assert_eq!(file_mapped_at(MAPS, 0x4000), None);
    }

    #[test]
    fn newlines_in_names() {
        assert_eq!(escaped(Path::new("/a\nb")), b"/a\\012b");
    }

    #[test]
    fn this_program_is_itself() {
        let image = Image::this().unwrap();
        image.check_that_children_share_it().unwrap();
    }
}
