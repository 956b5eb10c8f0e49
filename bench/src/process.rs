//! Processes: started, asked, measured from outside, and ended whatever happens.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Result;

/// How long a process may take to say that it is ready, or to end when it is asked to.
const PATIENCE: Duration = Duration::from_mins(1);
/// Ticks of the processor time that the kernel counts, in a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Asks the kernel to end this process when the one that started it ends, however that ends.
pub(crate) fn end_with_parent() -> Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Becomes `program`, which then ends with our parent too. Returns only when that fails.
pub(crate) fn become_program(program: &Path, arguments: &[String]) -> Result<()> {
    end_with_parent()?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{} cannot be started: {error}", program.display()).into())
}

/// A process that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    /// The line it printed when it was ready.
    pub(crate) ready: Value,
}

impl Process {
    /// Starts a subcommand of this program; its stderr is ours.
    pub(crate) fn own(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stderr(Stdio::inherit());
        Self::spawn(&arguments.join(" "), command)
    }

    /// Starts another program; its stderr goes to a file.
    pub(crate) fn other(program: &Path, arguments: &[&str], stderr: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("become").arg(program).args(arguments).stderr(File::create(stderr)?);
        Self::spawn(&program.display().to_string(), command)
    }

    fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self { name: name.to_owned(), child, stdout, ready: Value::Null })
    }

    /// Waits for the line that says where it listens.
    pub(crate) fn wait_ready(mut self) -> Result<Self> {
        let mut stdout = self.stdout.take().ok_or("its output was read already")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let read = stdout.read_line(&mut line);
            drop(sender.send(read.map(|_| (line, stdout))));
        });
        let (line, stdout) =
            lines.recv_timeout(PATIENCE).map_err(|_| self.failed("was not ready in time"))??;
        self.ready = serde_json::from_str(&line).map_err(|_| self.failed("did not start; see its log"))?;
        self.stdout = Some(stdout);
        Ok(self)
    }

    /// What the ready line says under a name.
    pub(crate) fn address(&self, name: &str) -> Result<&str> {
        self.ready
            .get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| self.failed("did not say its address").into())
    }

    /// Waits for its end, and reads what it printed.
    pub(crate) fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        let deadline = Instant::now() + 3 * PATIENCE;
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => return Err(self.failed("did not end in time").into()),
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        let mut text = String::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut text)?;
        }
        if !status.success() {
            return Err(self.failed(&format!("ended with {status}")).into());
        }
        Ok(serde_json::from_str(text.trim()).map_err(|error| self.failed(&format!("{error}: {text}")))?)
    }

    /// Asks it to end as an operator would, and waits.
    pub(crate) fn terminate(mut self) -> Result<()> {
        kill_process(self.pid()?, Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(self.failed("did not end when asked to").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Processor time it has taken, in seconds.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold anything: the state is field 3, user and system time are 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: f64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// The memory it occupies.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
        let (status, rollup) = (read("status")?, read("smaps_rollup")?);
        Ok(Memory {
            resident: kibibytes(&status, "VmRSS:")?,
            peak: kibibytes(&status, "VmHWM:")?,
            anonymous: kibibytes(&status, "RssAnon:")?,
            proportional: kibibytes(&rollup, "Pss:")?,
        })
    }

    /// Lets the peak of its memory begin anew with what it occupies now.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    fn pid(&self) -> Result<Pid> {
        let id = i32::try_from(self.child.id())?;
        Pid::from_raw(id).ok_or_else(|| self.failed("has no process id").into())
    }

    fn failed(&self, what: &str) -> String {
        format!("`{}` {what}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill, only to collect.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Everything that is in memory, pages of the binary included.
    pub(crate) resident: f64,
    /// The most that was in memory.
    pub(crate) peak: f64,
    /// What the process wrote: heap and stacks.
    pub(crate) anonymous: f64,
    /// As `resident`, but pages that several processes share are counted in parts.
    pub(crate) proportional: f64,
}

fn kibibytes(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
