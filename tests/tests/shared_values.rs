//! Numbers, structs and arrays in shared memory.

use std::io;
use std::time::Duration;

use futures::future::try_join_all;
use procession::pipe::simplex_with;
use procession::shared::{Array, Atomic, Mutex, OutOfBounds, Plain, Region, TryLockError};
use procession::{Failure, Limits, process};
use procession_tests::isolated;

/// One field of each kind, with gaps between them.
#[derive(Debug, Clone, Copy, PartialEq, Plain)]
struct Record {
    flag: bool,
    big: u64,
    letter: char,
    numbers: [i16; 3],
    inner: Inner<f32>,
    pair: (u8, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Plain)]
struct Inner<T>(u8, T, ());

#[derive(Debug, Clone, Copy, PartialEq, Plain)]
struct Nothing;

impl Record {
    const ONE: Self = Self {
        flag: false,
        big: u64::MAX / 4,
        letter: 'a',
        numbers: [-1, 2, -3],
        inner: Inner(7, 0.25, ()),
        pair: (100, 1e300),
    };

    fn doubled(self) -> Self {
        Self {
            flag: true,
            big: self.big * 2,
            letter: 'ß',
            numbers: self.numbers.map(|n| n * 2),
            inner: Inner(self.inner.0 * 2, self.inner.1 * 2.0, ()),
            pair: (self.pair.0 * 2, self.pair.1 * 2.0),
        }
    }
}

#[process]
fn sets(i: Atomic<i32>, d: Atomic<f64>, h: Atomic<i16>, q: Atomic<i64>, c: Atomic<char>, b: Atomic<bool>) {
    i.store(-7);
    d.store(3.5);
    assert_eq!(h.swap(i16::MIN), 2);
    assert_eq!(q.compare_exchange(4, i64::MAX), Ok(4));
    assert_eq!(c.update(|before| if before == 'x' { 'Ω' } else { '?' }), 'x');
    assert!(!b.fetch_or(true));
}

#[process]
async fn doubles(
    int: Atomic<i64>,
    double: Mutex<f64>,
    record: Mutex<Record>,
    doubles: Array<f64>,
    text: Array<u8>,
) -> Result<(), Failure> {
    int.update(|n| n * 2);
    *double.lock().await? *= 2.0;
    let mut record = record.lock().await?;
    *record = record.doubled();
    let guard = doubles.lock().await?;
    for index in 0..doubles.len() {
        doubles.set(index, doubles.get(index)? * 2.0)?;
    }
    drop(guard);
    text.write(0, &text.to_vec().repeat(2)[..text.len()])?;
    Ok(())
}

#[process]
fn sums(cells: Array<i32>) -> Result<(), Failure> {
    let mut sum = 0;
    for index in 0..cells.len() {
        sum += cells.load(index)?;
        cells.store(index, sum)?;
    }
    Ok(())
}

/// The same memory by two handles, one in the other's place; given back.
#[process]
fn writes(region: Region, bytes: Array<u8>) -> Result<(Region, Array<u8>), Failure> {
    bytes.write(3, b"from the child")?;
    assert_eq!(region.members().len(), 2);
    Ok((region, bytes))
}

#[process]
fn adds(
    times: u32,
    integer: Atomic<u64>,
    float: Atomic<f64>,
    small: Array<u16>,
    at: usize,
) -> Result<(), Failure> {
    for _ in 0..times {
        integer.fetch_add(1);
        float.fetch_add(1.0);
        small.fetch_add(at, 1)?;
    }
    Ok(())
}

#[process]
async fn changes_large(large: Mutex<[u8; 4096]>, nothing: Mutex<Nothing>) -> Result<(), Failure> {
    let mut guard = large.lock().await?;
    guard.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n % 251) as u8);
    let mut nothing = nothing.lock().await?;
    *nothing = Nothing;
    Ok(())
}

/// Has the lock until it is killed, in the middle of something.
#[process]
async fn keeps(cells: Array<u64>) -> Result<(), Failure> {
    let _guard = cells.lock().await?;
    cells.set(0, 1)?;
    std::future::pending::<()>().await;
    Ok(())
}

isolated! {
    /// Each kind of number, as the child has left it.
    async fn me01_values() {
        let (i, d, h) = (Atomic::new(1).unwrap(), Atomic::new(1.0).unwrap(), Atomic::new(2).unwrap());
        let (q, c, b) = (Atomic::new(4).unwrap(), Atomic::new('x').unwrap(), Atomic::new(false).unwrap());
        sets(i.clone(), d.clone(), h.clone(), q.clone(), c.clone(), b.clone()).await.unwrap();
        assert_eq!((i.load(), d.load(), h.load()), (-7, 3.5, i16::MIN));
        assert_eq!((q.load(), c.load(), b.load()), (i64::MAX, 'Ω', true));
        assert_eq!(q.compare_exchange(4, 5), Err(i64::MAX));
    }

    /// Whether there is a lock is said by the type: that of an array is its own, and an agreement.
    async fn me02_locks() {
        let cells = Array::<u64>::zeroed(2).unwrap();
        let mut child = keeps(cells.clone()).spawn().await.unwrap();
        while cells.owner() != Some(child.pid()) || cells.load(0).unwrap() != 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(cells.try_lock(), Err(TryLockError::WouldBlock)));
        cells.set(1, 7).unwrap();
        // As that of a mutex it goes on when its owner dies; what was written stays.
        let waiting = cells.lock();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        child.signaler().kill().unwrap();
        let died = waiting.await.unwrap_err();
        assert_eq!(cells.to_vec(), [1, 7]);
        drop(died.recover());
        drop(cells.lock().await.unwrap());
        child.wait().await.unwrap();
    }

    /// The prefix sum that the child computes is that computed here.
    async fn me04_arrays() {
        let numbers = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831];
        let cells = Array::from_iter(numbers).unwrap();
        assert_eq!(cells.len(), 10);
        let all: Vec<_> = cells.iter().collect();
        assert_eq!(all, numbers);
        assert_eq!(cells.read(2..7).unwrap(), numbers[2..7]);
        cells.write(4, &[1, 2, 3, 4]).unwrap();
        let mut expected = numbers;
        expected[4..8].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(cells.to_vec(), expected);
        sums(cells.clone()).await.unwrap().unwrap();
        let mut sum = 0;
        let sums = expected.map(|n| { sum += n; sum });
        assert_eq!(cells.to_vec(), sums);
        assert_eq!(Array::<i32>::zeroed(10).unwrap().to_vec(), [0; 10]);
        let mut part = [0; 3];
        cells.read_into(7, &mut part).unwrap();
        assert_eq!(part, sums[7..]);
    }

    /// Numbers, structs, arrays and text, each doubled by the child.
    async fn me06_shared_types() {
        let region = Region::with_capacity(4096).unwrap();
        let int = Atomic::new_in(&region, 7).unwrap();
        let double = Mutex::new_in(&region, 1.0 / 3.0).unwrap();
        let record = Mutex::new_in(&region, Record::ONE).unwrap();
        let numbers = Array::from_iter_in(&region, (0..10).map(f64::from)).unwrap();
        let text = Array::from_iter_in(&region, *b"hello\0\0\0\0\0").unwrap();
        text.write(5, b"hello").unwrap();
        doubles(int.clone(), double.clone(), record.clone(), numbers.clone(), text.clone()).await.unwrap().unwrap();
        assert_eq!((int.load(), *double.lock().await.unwrap()), (14, 2.0 / 3.0));
        assert_eq!(*record.lock().await.unwrap(), Record::ONE.doubled());
        assert_eq!(numbers.to_vec(), (0..10).map(|n| f64::from(2 * n)).collect::<Vec<_>>());
        assert_eq!(text.to_vec(), b"hellohello");
    }

    /// Large values, and such as have no bytes.
    async fn me06_sizes() {
        let (large, nothing) = (Mutex::new([0; 4096]).unwrap(), Mutex::new(Nothing).unwrap());
        changes_large(large.clone(), nothing.clone()).await.unwrap().unwrap();
        let guard = large.lock().await.unwrap();
        assert!(guard.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
        assert_eq!(*nothing.lock().await.unwrap(), Nothing);
    }

    /// A copy is independent of what it was made of.
    #[once]
    async fn me07_copies() {
        let cells = Array::from_iter([Record::ONE; 3]).unwrap();
        let copy = Array::from_iter(cells.iter()).unwrap();
        let handle = cells.clone();
        cells.set(1, Record::ONE.doubled()).unwrap();
        assert_eq!(copy.to_vec(), [Record::ONE; 3]);
        assert_eq!(handle.to_vec(), [Record::ONE, Record::ONE.doubled(), Record::ONE]);
    }

    /// 512 bytes, as another handle sees them; what cannot be had is an error.
    #[once]
    fn sh01_regions() {
        let region = Region::with_capacity(Array::<u8>::size_in_region(512)).unwrap();
        let bytes = Array::<u8>::zeroed_in(&region, 512).unwrap();
        let other = bytes.clone();
        bytes.write(500, b"at the end!!").unwrap();
        assert_eq!(other.read(498..).unwrap(), b"\0\0at the end!!");
        assert_eq!(Array::<u8>::zeroed(0).unwrap().to_vec(), [0; 0]);
        let kind = |error: io::Error| error.kind();
        assert!(Region::with_capacity(usize::MAX).is_err());
        assert!(Array::<u64>::zeroed(usize::MAX).is_err());
        assert_eq!(Array::<u8>::zeroed_in(&region, 1 << 20).map_err(kind).unwrap_err(), io::ErrorKind::StorageFull);
        assert_eq!(Array::<u64>::zeroed_in(&region, usize::MAX).map_err(kind).unwrap_err(), io::ErrorKind::StorageFull);
    }

    /// A handle names the same memory in the child, and that which it gives back the same here.
    async fn sh05_sh07_handles() {
        let region = Region::with_capacity(4096).unwrap();
        let bytes = Array::<u8>::zeroed_in(&region, 20).unwrap();
        let (region_again, bytes_again) = writes(region, bytes.clone()).await.unwrap().unwrap();
        assert_eq!(bytes.to_vec(), b"\0\0\0from the child\0\0\0");
        bytes_again.write(0, b"and").unwrap();
        assert_eq!(bytes.read(..5).unwrap(), b"andfr");
        let third = Array::from_iter_in(&region_again, [5_u8]).unwrap();
        assert_eq!(third.to_vec(), [5]);
    }

    /// Records of a fixed size; what is too long is an error, and leaves its neighbours alone.
    #[once]
    fn sh11_records() {
        let texts = Array::from_iter([*b"abcde", *b"fghij", *b"klmno"]).unwrap();
        texts.set(1, *b"FGHIJ").unwrap();
        assert_eq!(texts.to_vec(), [*b"abcde", *b"FGHIJ", *b"klmno"]);
        let too_long = texts.write(2, &[*b"12345"; 2]).unwrap_err();
        assert!(matches!(too_long, OutOfBounds { start: 2, end: 4, len: 3, .. }));
        assert_eq!(too_long.to_string(), "2..4 is not within an array of 3 elements");
        assert_eq!(texts.get(3).unwrap_err().to_string(), "element 3 is not within an array of 3 elements");
        assert!(texts.set(usize::MAX, *b"12345").is_err());
        assert!(texts.read(1..4).is_err());
        assert!(texts.read_into(2, &mut [[0; 5]; 2]).is_err());
        assert_eq!(texts.to_vec(), [*b"abcde", *b"FGHIJ", *b"klmno"]);
        assert_eq!(texts.iter().position(|text| text == *b"klmno"), Some(2));
        assert_eq!(Array::<bool>::from_iter([]).unwrap().len(), 0);

        let region = Region::with_capacity(4096).unwrap();
        let [one, two] = [1, 2].map(|n| Array::from_iter_in(&region, [n; 13]).unwrap());
        one.write(0, &[9_u8; 13]).unwrap();
        assert!(one.write(0, &[8; 14]).is_err());
        assert_eq!((one.to_vec(), two.to_vec()), (vec![9; 13], vec![2; 13]));
        assert!(one.fetch_add(13, 1).is_err() && one.store(13, 1).is_err() && one.load(13).is_err());
    }

    /// A handle takes as much of a message whatever it names.
    #[once]
    fn sh12_sizes_of_handles() {
        const MOST: u64 = 24;
        for len in [1, 1_000_000] {
            let (mut sender, mut receiver) = simplex_with(Limits::DEFAULT.max_message(MOST)).unwrap();
            sender.blocking_send(Array::<u64>::zeroed(len).unwrap()).unwrap();
            assert_eq!(receiver.blocking_recv().unwrap().unwrap().len(), len);
        }
        let (mut sender, _receiver) = simplex_with(Limits::DEFAULT.max_message(MOST)).unwrap();
        sender.blocking_send([0_u8; 25].to_vec()).unwrap_err();
    }

    /// Two processes add at the same time, also to neighbours within a word: nothing is lost.
    #[limit(240)]
    async fn f21_sums_are_exact() {
        const TIMES: u32 = 100_000;
        let (integer, float) = (Atomic::new(0).unwrap(), Atomic::new(0.0).unwrap());
        let small = Array::from_iter([0, 0, 0, 7]).unwrap();
        let both = [1, 2].map(|at| adds(TIMES, integer.clone(), float.clone(), small.clone(), at));
        for added in try_join_all(both).await.unwrap() {
            added.unwrap();
        }
        assert_eq!((integer.load(), float.load()), (u64::from(2 * TIMES), f64::from(2 * TIMES)));
        assert_eq!(small.to_vec(), [0, TIMES as u16, TIMES as u16, 7]);
    }
}

/// Integers wrap around within their own bytes.
#[test]
fn operations_of_each_type() {
    let small = Array::from_iter([0_u8, 250, 0]).unwrap();
    assert_eq!(small.fetch_add(1, 10).unwrap(), 250);
    assert_eq!(small.fetch_sub(1, 5).unwrap(), 4);
    assert_eq!(small.to_vec(), [0, 255, 0]);
    assert_eq!(small.compare_exchange(1, 255, 1).unwrap(), Ok(255));
    assert_eq!(small.compare_exchange(1, 255, 2).unwrap(), Err(1));
    assert_eq!((small.swap(2, 3).unwrap(), small.update(2, |n| n * 2).unwrap()), (0, 3));
    assert_eq!(small.to_vec(), [0, 1, 6]);

    let signed = Atomic::new(i64::MAX).unwrap();
    assert_eq!(signed.fetch_add(1), i64::MAX);
    assert_eq!(signed.fetch_sub(1), i64::MIN);
    assert_eq!((signed.fetch_min(-5), signed.fetch_max(-3)), (i64::MAX, -5));
    assert_eq!((signed.fetch_and(0xFF), signed.fetch_or(2), signed.fetch_xor(3)), (-3, 0xFD, 0xFF));
    assert_eq!(signed.load(), 0xFC);
    let narrow = Atomic::new(-1_i16).unwrap();
    assert_eq!((narrow.fetch_min(-7), narrow.fetch_max(5), narrow.load()), (-1, -7, 5));
    assert_eq!((narrow.fetch_xor(-1), narrow.fetch_and(0x7F), narrow.load()), (5, !5, 0x7A));

    let float = Atomic::new(1.5_f32).unwrap();
    assert_eq!((float.fetch_add(0.25), float.fetch_sub(2.0), float.load()), (1.5, 1.75, -0.25));
    assert_eq!((float.fetch_max(f32::NAN), float.fetch_min(-1.0), float.load()), (-0.25, -0.25, -1.0));
    assert_eq!(Atomic::new(0.0).unwrap().compare_exchange(-0.0, 1.0), Err(0.0));
    assert!(Atomic::new(f64::NAN).unwrap().compare_exchange(f64::NAN, 1.0).is_ok());

    let flag = Atomic::new(true).unwrap();
    assert_eq!((flag.fetch_and(false), flag.fetch_xor(true), flag.fetch_or(false)), (true, false, true));
    assert!(flag.load());
    let letter = Atomic::new('a').unwrap();
    assert_eq!((letter.swap('\u{10FFFF}'), letter.load()), ('a', '\u{10FFFF}'));
    assert_eq!(
        format!("{letter:?} {:?}", Array::from_iter([1]).unwrap()),
        "Atomic('\\u{10ffff}') Array { len: 1, .. }"
    );
}
