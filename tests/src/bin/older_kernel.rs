//! Runs a program as on an older kernel, or a smaller one: what that has not fails as it does there.
//!
//! ```text
//! older_kernel 6.8 PROGRAM ARGUMENTS...
//! ```
//!
//! | version | lacks |
//! |---|---|
//! | 6.14 | the exit status of a process that was reaped, by its pidfd |
//! | 6.8 | that, all else that `PIDFD_GET_INFO` tells, and signals to a process group by a pidfd |
//! | small | what a kernel has for `CONFIG_CHECKPOINT_RESTORE`: to say that a timer has expired |
#![expect(unsafe_code, reason = "there is no safe face for filters of system calls")]
#![expect(clippy::unwrap_used, reason = "without its pretence it is of no use")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::libc::{
    self, BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, c_int, c_long, sock_filter, sock_fprog,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

/// Type and number of `PIDFD_GET_INFO`; what stands above them is a size and a direction.
const GET_INFO: u32 = 0xff0b;
const GET_INFO_OF_64_BYTES: u32 = 0xc040_0000 | GET_INFO;

/// The same of `TFD_IOC_SET_TICKS`.
const SET_TICKS: u32 = 0x5400;
const SET_TICKS_OF_8_BYTES: u32 = 0x4008_0000 | SET_TICKS;

const SIGNAL_PROCESS_GROUP: u32 = 4;

/// Where the filter finds the number of a call, and the lower half of an argument, on a little-endian machine.
const NUMBER: u32 = 0;

const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// What fails, and how.
struct Lack {
    request: u32,
    error: c_int,
    signal_to_group: Option<c_int>,
}

impl Lack {
    fn of(version: &str) -> Option<Self> {
        match version {
            // It knows the request, and has nothing to tell of a process that was reaped.
            "6.14" => Some(Self { request: GET_INFO, error: libc::ESRCH, signal_to_group: None }),
            "6.8" => {
                Some(Self { request: GET_INFO, error: libc::ENOTTY, signal_to_group: Some(libc::EINVAL) })
            }
            "small" => Some(Self { request: SET_TICKS, error: libc::ENOTTY, signal_to_group: None }),
            _ => None,
        }
    }

    fn filter(&self) -> Vec<sock_filter> {
        let (ioctl, signal) = (number(libc::SYS_ioctl), number(libc::SYS_pidfd_send_signal));
        let mut filter = vec![
            instruction(BPF_LD | BPF_W | BPF_ABS, NUMBER, 0, 0),
            instruction(BPF_JMP | BPF_JEQ | BPF_K, ioctl, 0, 5),
            instruction(BPF_LD | BPF_W | BPF_ABS, argument(1), 0, 0),
            instruction(BPF_ALU | BPF_AND | BPF_K, 0xffff, 0, 0),
            instruction(BPF_JMP | BPF_JEQ | BPF_K, self.request, 0, 1),
            fails_with(self.error),
            instruction(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0),
        ];
        if let Some(error) = self.signal_to_group {
            filter.extend([
                instruction(BPF_JMP | BPF_JEQ | BPF_K, signal, 0, 3),
                instruction(BPF_LD | BPF_W | BPF_ABS, argument(3), 0, 0),
                instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
                fails_with(error),
            ]);
        }
        filter.push(instruction(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0));
        filter
    }

    /// Checks that the pretence holds.
    fn holds(&self) -> bool {
        let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let refused = if self.request == GET_INFO { get_info(&this) } else { set_ticks() };
        // This process may lead no group: that is another error.
        let not_sent = signal_to_group(&this).filter(|error| *error == libc::EINVAL);
        refused == Some(self.error) && not_sent == self.signal_to_group
    }
}

fn number(call: c_long) -> u32 {
    u32::try_from(call).unwrap()
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k }
}

fn fails_with(error: c_int) -> sock_filter {
    instruction(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error.cast_unsigned(), 0, 0)
}

/// The error of a call, if it is one.
fn error_of(code: c_long) -> Option<c_int> {
    (code == -1).then(|| io::Error::last_os_error().raw_os_error()).flatten()
}

fn get_info(pidfd: &OwnedFd) -> Option<c_int> {
    let mut room = [0_u64; 8];
    let request = GET_INFO_OF_64_BYTES as libc::Ioctl;
    // SAFETY: the request says that the kernel writes 64 bytes, which there are.
    let code = unsafe { libc::ioctl(pidfd.as_raw_fd(), request, room.as_mut_ptr()) };
    error_of(code.into())
}

fn set_ticks() -> Option<c_int> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
    let ticks = 1_u64;
    let request = SET_TICKS_OF_8_BYTES as libc::Ioctl;
    // SAFETY: the request says that the kernel reads 8 bytes, which there are.
    let code = unsafe { libc::ioctl(timer.as_raw_fd(), request, &raw const ticks) };
    error_of(code.into())
}

/// What comes of sending no signal to one's own group.
fn signal_to_group(pidfd: &OwnedFd) -> Option<c_int> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and without a `siginfo_t` the kernel makes its own.
    let code = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), 0, info, SIGNAL_PROCESS_GROUP)
    };
    error_of(code)
}

/// Has all that this process becomes and starts go by a filter.
fn install(mut filter: Vec<sock_filter>) -> io::Result<()> {
    let program = sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: the program is as long as it says, and the call copies it.
    let install =
        || unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    match error_of(install()) {
        None => Ok(()),
        // Who is not root may do so when it can have no more rights than it has.
        Some(libc::EACCES) => {
            rustix::thread::set_no_new_privs(true)?;
            error_of(install()).map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
        }
        Some(error) => Err(io::Error::from_raw_os_error(error)),
    }
}

#[expect(clippy::print_stderr, reason = "it is a program for people and scripts")]
fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let lack = words.next().and_then(|version| Lack::of(version.to_str()?));
    let (Some(lack), Some(program)) = (lack, words.next()) else {
        eprintln!("older_kernel 6.8|6.14|small PROGRAM ARGUMENTS...");
        return ExitCode::from(64);
    };
    if let Err(error) = install(lack.filter()) {
        eprintln!("older_kernel: cannot install a filter: {error}");
        return ExitCode::FAILURE;
    }
    assert!(lack.holds(), "this is no such kernel");
    let error = Command::new(&program).args(words).exec();
    eprintln!("older_kernel: {}: {error}", program.display());
    ExitCode::FAILURE
}
