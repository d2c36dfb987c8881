//! The image that this code is in: where it lies, what it is called, and what stands in it.

use std::ffi::{c_int, c_void};
use std::ops::Range;

use crate::entry::{Entry, MAGIC};

/// What distances are counted from. A static: functions may be folded together or moved by a linker, and a
/// function as the origin crashed release builds. No descriptor, and nothing that looks like one.
static ANCHOR: u64 = !MAGIC;

fn anchor() -> usize {
    (&raw const ANCHOR) as usize
}

/// A loaded image.
#[derive(Debug, Default, Clone)]
pub(crate) struct LoadedImage {
    /// Where it lies in memory.
    pub(crate) memory: Range<usize>,
    /// The linker's build id, if it left one.
    pub(crate) build_id: Option<Vec<u8>>,
}

/// The distance of an entry from the anchor, or `None` if it is not in the same image.
pub(crate) fn distance(entry: &'static Entry, image: &LoadedImage) -> Option<i64> {
    let address = std::ptr::from_ref(entry) as usize;
    holds_entry(image, address).then(|| address.wrapping_sub(anchor()).cast_signed() as i64)
}

/// The entry at a distance from the anchor; `None` if nothing of this image that looks like one is there.
pub(crate) fn entry_at(distance: i64, image: &LoadedImage) -> Option<&'static Entry> {
    let address = anchor().wrapping_add_signed(isize::try_from(distance).ok()?);
    if !holds_entry(image, address) {
        return None;
    }
    // SAFETY: the address is aligned and inside this image's memory, which stays mapped; an `Entry` starts with its
    // magic number, a plain integer, for which every bit pattern is a value.
    let magic = unsafe { (address as *const u64).read() };
    // In code that compares with it the number itself would stand, perhaps where an `Entry` could. Whoever names the place may
    // be another than the parent: a process that uses the pool whose worker this is.
    let is_entry = magic == !std::hint::black_box(!MAGIC);
    // SAFETY: nothing else in this image is this number.
    is_entry.then(|| unsafe { &*(address as *const Entry) })
}

fn holds_entry(image: &LoadedImage, address: usize) -> bool {
    let end = address.checked_add(size_of::<Entry>());
    address.is_multiple_of(align_of::<Entry>())
        && image.memory.contains(&address)
        && end.is_some_and(|end| end <= image.memory.end)
}

/// The image that this code is in. See `dl_iterate_phdr(3)`.
pub(crate) fn loaded_image() -> Option<LoadedImage> {
    let mut found: Option<LoadedImage> = None;
    // SAFETY: the callback is given this `found`, and is done with it when the call returns.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

/// # Safety
/// `info` must describe a loaded image, and `found` point to an `Option<LoadedImage>`.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker passes a valid description.
    let info = unsafe { &*info };
    // SAFETY: it describes `dlpi_phnum` headers, which stay where they are while the image is loaded.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let base = usize::try_from(info.dlpi_addr).unwrap_or(0);
    let memory = extent(base, headers);
    if !memory.contains(&anchor()) {
        return 0;
    }
    // SAFETY: the note segments of a loaded image are mapped.
    let build_id = headers.iter().find_map(|header| unsafe { build_id(base, header) });
    // SAFETY: `loaded_image` passes its own variable.
    unsafe { *found.cast::<Option<LoadedImage>>() = Some(LoadedImage { memory, build_id }) };
    1
}

fn extent(base: usize, headers: &[libc::Elf64_Phdr]) -> Range<usize> {
    let segments = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let ranges = segments.map(|header| (header.p_vaddr, header.p_vaddr + header.p_memsz));
    let (start, end) =
        ranges.fold((u64::MAX, 0), |(start, end), (low, high)| (start.min(low), end.max(high)));
    let address = |offset: u64| base.wrapping_add(usize::try_from(offset).unwrap_or(0));
    if start < end { address(start)..address(end) } else { 0..0 }
}

/// The build id among the notes of a segment. A note is three words (sizes of name and contents, type), then
/// the name and the contents, each filled up to four bytes; see `elf(5)`.
///
/// # Safety
/// If the segment holds notes, it must be mapped at `base + p_vaddr`.
unsafe fn build_id(base: usize, header: &libc::Elf64_Phdr) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    if header.p_type != libc::PT_NOTE {
        return None;
    }
    let start = base.wrapping_add(usize::try_from(header.p_vaddr).ok()?);
    // SAFETY: the caller vouches for the segment.
    let mut notes =
        unsafe { std::slice::from_raw_parts(start as *const u8, usize::try_from(header.p_memsz).ok()?) };
    loop {
        let (&[a, b, c, d, e, f, g, h, i, j, k, l], rest) = notes.split_first_chunk()?;
        let padded = |size: u32| usize::try_from(size).ok().map(|size| size.next_multiple_of(4));
        let (name_size, size) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        let (name, rest) = rest.split_at_checked(padded(name_size)?)?;
        let contents = rest.get(..usize::try_from(size).ok()?)?;
        if u32::from_ne_bytes([i, j, k, l]) == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(contents.to_vec());
        }
        notes = rest.get(padded(size)?..)?;
    }
}
