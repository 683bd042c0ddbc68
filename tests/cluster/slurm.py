"""SLURM on this machine alone, with accounting, three nodes and a card that can't compute.

All daemons are children of the tests and listen on the loopback interface only. What is changed
outside the cluster's folder, a line of /etc/hosts and a link in /etc/slurm, is taken back.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = (
    *("munge", "slurmctld", "slurmd", "slurm-client", "slurmdbd"),
    # The server itself; its full package would bring services.
    *("mariadb-server-core", "mariadb-client-core"),
)
HOSTS = Path("/etc/hosts")
MARK = "# cluster of the tests"
SETTINGS = Path("/etc/slurm/slurm.conf")
"""Where steps of jobs look: they are started without SLURM_CONF."""

POLICY = Path("/usr/sbin/policy-rc.d")
CONTROLLER, ACCOUNTS, DATABASE, NODE = 16917, 16918, 16919, 16921
"""Ports; that of the first node is followed by those of the others."""

NODES = 3
PR_SET_PDEATHSIG = 1


def missing() -> str:
    """Install what SLURM needs, and return why it can't run here, or nothing."""
    if os.geteuid() != 0:
        return "SLURM on one machine needs root"
    if shutil.which("apt-get") is None:
        return "SLURM is installed from packages of Debian, and there is no apt-get"
    if SETTINGS.exists():
        return f"this machine has a SLURM of its own: {SETTINGS}"
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}"]
    states = {
        name: subprocess.run([*query, name], capture_output=True, text=True).stdout
        for name in PACKAGES
    }
    wanted = [name for name, state in states.items() if state != "installed"]
    return _install(wanted) if wanted else ""


def _install(packages: list[str]) -> str:
    """Install packages without starting their services; return why that failed, or nothing."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    try:
        for command in (["apt-get", "update"], install):
            done = subprocess.run(
                [*command, "--quiet", "--option", "DPkg::Lock::Timeout=180"],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                timeout=600,
            )
    except subprocess.TimeoutExpired:
        return "the packages of SLURM did not arrive in ten minutes"
    finally:
        if ours:
            POLICY.unlink()
    return f"no packages of SLURM: {done.stderr.strip()[-300:]}" if done.returncode else ""


def _ends_with_the_tests() -> None:
    """Let a daemon end where the process of the tests is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(what: str, ready: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"no {what} after {seconds} seconds"
        time.sleep(0.2)


def _open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


class Cluster:
    """A cluster in a folder: partition 'main', account 'lab', nodes n1 (with the card) to n3.

    Args:
        folder: of settings, logs, sockets and state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._link = False
        self._made_folder = False

    def environment(self) -> dict[str, str]:
        """Return the environment of daemons and of commands."""
        path = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Return what a command of SLURM prints; nothing where it fails."""
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    def _start(self, name: str, *command: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            self.running[name] = subprocess.Popen(
                command,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_ends_with_the_tests,
            )

    def _end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        daemon = self.running.pop(name)
        daemon.send_signal(how)
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def start(self) -> None:
        """Start everything, and wait until all nodes are idle."""
        self._write_settings()
        self._reach_outside()
        at = self.folder
        self._start(
            "munged",
            *("munged", "--foreground", f"--key-file={at}/munge.key", "--origin=127.0.0.1"),
            *(f"--socket={at}/munge.socket", f"--pid-file={at}/munged.pid"),
            *(f"--log-file={at}/munged.log", f"--seed-file={at}/munge.seed"),
        )
        subprocess.run(
            [
                *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={at}/db"),
                *("--auth-root-authentication-method=socket", "--skip-test-db"),
            ],
            check=True,
            capture_output=True,
        )
        self._start(
            "mariadbd",
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={at}/db"),
            *("--bind-address=127.0.0.1", f"--port={DATABASE}", f"--socket={at}/db.socket"),
            *(f"--init-file={at}/init.sql", "--skip-name-resolve", "--performance-schema=OFF"),
            *("--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"),
        )
        _wait("munge", (at / "munge.socket").exists)
        _wait("database", lambda: _open(DATABASE))
        self._start("slurmdbd", "slurmdbd", "-D")
        _wait("accounting", lambda: "Cluster" in self.ask("sacctmgr", "list", "cluster"))
        for entry in (
            ("cluster", "tests"),
            ("account", "lab", "cluster=tests"),
            ("user", "root", "account=lab"),
        ):
            self.ask("sacctmgr", "--immediate", "add", *entry)
        self.start_controller()
        for number in range(1, NODES + 1):
            self._start(f"slurmd-n{number}", "slurmd", "-D", "-N", f"n{number}")
        _wait("idle nodes", lambda: self.ask("sinfo", "-hN", "-o", "%T").split() == ["idle"] * 3)

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it answers."""
        self._start("slurmctld", "slurmctld", "-D")
        _wait("controller", lambda: "UP" in self.ask("scontrol", "ping"))

    def kill_controller(self) -> None:
        """Kill slurmctld as a crash would: jobs go on, and what it had not saved is lost."""
        self._end("slurmctld", signal.SIGKILL)

    def stop(self) -> None:
        """Cancel all jobs, end the daemons, the last one first, and take back what lies outside."""
        if "slurmctld" in self.running and "UP" in self.ask("scontrol", "ping"):
            self.ask("scancel", "--user=root")
            deadline = time.monotonic() + 30
            while self.ask("squeue", "-h") and time.monotonic() < deadline:
                time.sleep(0.2)
        for name in reversed(list(self.running)):
            self._end(name)
        if self._link:
            SETTINGS.unlink()
        if self._made_folder:
            SETTINGS.parent.rmdir()
        self._forget_host()

    def _reach_outside(self) -> None:
        """Let steps of jobs find the settings, and this host's own name lead to the loopback."""
        self._made_folder = not SETTINGS.parent.exists()
        SETTINGS.parent.mkdir(exist_ok=True)
        # A link that leads nowhere is what killed tests left.
        SETTINGS.unlink(missing_ok=True)
        SETTINGS.symlink_to(self.folder / "slurm.conf")
        self._link = True
        self._forget_host()
        name = socket.gethostname()
        try:
            address = socket.gethostbyname(name)
        except OSError:
            address = ""
        if address != "127.0.0.1":
            HOSTS.write_bytes(f"127.0.0.1 {name} {MARK}\n".encode() + HOSTS.read_bytes())

    def _forget_host(self) -> None:
        # Written in place: the file may be mounted by itself.
        lines = HOSTS.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if MARK.encode() not in line]
        if kept != lines:
            HOSTS.write_bytes(b"".join(kept))

    def _write_settings(self) -> None:
        at = self.folder
        for name in ("state", "db", *(f"n{number}" for number in range(1, NODES + 1))):
            (at / name).mkdir(parents=True)
        (at / "munge.key").touch(mode=0o600)
        (at / "munge.key").write_bytes(os.urandom(1024))
        # Munge trusts no socket and no key in a folder that others may write.
        at.chmod(0o755)
        # SLURM schedules a plain file too, but gives its job no CUDA_VISIBLE_DEVICES.
        os.mknod(at / "card", 0o666 | 0o020000, os.makedev(1, 3))
        (at / "gres.conf").write_text(f"AutoDetect=off\nNodeName=n1 Name=gpu File={at}/card\n")
        (at / "init.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS accounts;\n"
            "CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
            "GRANT ALL ON accounts.* TO 'slurm'@'127.0.0.1';\n"
        )
        (at / "slurmdbd.conf").touch(mode=0o600)
        (at / "slurmdbd.conf").write_text(
            f"""AuthType=auth/munge
AuthInfo=socket={at}/munge.socket
CommunicationParameters=NoInAddrAny
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ACCOUNTS}
SlurmUser=root
PidFile={at}/slurmdbd.pid
LogFile={at}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={DATABASE}
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounts
"""
        )
        nodes = "".join(
            f"NodeName=n{number} NodeHostname=localhost NodeAddr=127.0.0.1 "
            f"Port={NODE + number - 1} CPUs=2 RealMemory=64000{' Gres=gpu:1' * (number == 1)}\n"
            for number in range(1, NODES + 1)
        )
        (at / "slurm.conf").write_text(
            f"""ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={CONTROLLER}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={at}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ACCOUNTS}
AccountingStoragePass={at}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
SchedulerParameters=bf_interval=5,batch_sched_delay=1
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
MinJobAge=3600
StateSaveLocation={at}/state
SlurmctldPidFile={at}/slurmctld.pid
SlurmctldLogFile={at}/slurmctld.log
SlurmdSpoolDir={at}/%n
SlurmdPidFile={at}/slurmd.%n.pid
SlurmdLogFile={at}/slurmd.%n.log
GresTypes=gpu
{nodes}PartitionName=main Nodes=n[1-{NODES}] Default=YES MaxTime=INFINITE State=UP
"""
        )
