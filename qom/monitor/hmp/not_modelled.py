"""Commands of QEMU's monitor that concern what is not modelled: each says so, and what it would be about.

They are in no help and no completion.
"""

from __future__ import annotations

from typing import Annotated

from qom.monitor.hmp.arguments import Rest
from qom.monitor.hmp.declare import CommandError, Hmp, HmpCommand

__all__ = ["NOT_MODELLED", "command_not_modelled"]

_BY_SUBJECT = {
    "snapshots and migration": (
        "savevm", "loadvm", "delvm", "info snapshots", "migrate", "migrate_cancel", "migrate_continue",
        "migrate_incoming", "migrate_pause", "migrate_recover", "migrate_set_capability", "migrate_set_parameter",
        "migrate_start_postcopy", "info migrate", "info migrate_capabilities", "info migrate_parameters",
        "client_migrate_info", "calc_dirty_rate", "info dirty_rate", "set_vcpu_dirty_limit", "cancel_vcpu_dirty_limit",
        "info vcpu_dirty_limit", "x_colo_lost_heartbeat", "info rdma",
    ),
    "networking": (
        "set_link", "netdev_add", "netdev_del", "hostfwd_add", "hostfwd_remove", "announce_self", "info network",
        "info usernet", "info rocker", "info rocker-ports", "info rocker-of-dpa-flows", "info rocker-of-dpa-groups",
    ),
    "block jobs and other image formats' features": (
        "block_job_cancel", "block_job_complete", "block_job_pause", "block_job_resume", "block_job_set_speed",
        "block_set_io_throttle", "block_stream", "commit", "drive_backup", "drive_mirror",
        "snapshot_blkdev", "snapshot_blkdev_internal", "snapshot_delete_blkdev_internal", "nbd_server_add",
        "nbd_server_remove", "nbd_server_start", "nbd_server_stop", "qemu-io", "info block-jobs",
    ),
    "memory balloons": ("balloon", "info balloon"),
    "record and replay": ("replay_break", "replay_delete_break", "replay_seek", "info replay"),
    "remote displays": ("set_password", "expire_password", "info vnc", "info spice"),
    "sound": ("wavcapture", "stopcapture", "info capture"),
    "USB": ("info usb", "info usbhost"),
    "virtio devices": (
        "info virtio", "info virtio-status", "info virtio-queue-status", "info virtio-queue-element",
        "info virtio-vhost-queue-status",
    ),
    "encrypted guests": ("info sev", "info sgx"),
    "TPMs": ("info tpm",),
    "machine checks and PCI Express errors": ("mce", "pcie_aer_inject_error"),
    "a gdb server": ("gdbserver",),
    "single steps of the emulator": ("singlestep",),
    "QEMU's trace events (object_add trace,id=t,what=ports,file=F writes down what happens)": (
        "trace-event", "info trace-events",
    ),
    "the flattened device tree": ("dumpdtb",),
    "profiles of the emulator": ("sync-profile", "info sync-profile", "info profile", "info opcount", "info jit"),
}  # fmt: skip
NOT_MODELLED: dict[str, str] = {name: subject for subject, names in _BY_SUBJECT.items() for name in names}
"""By command: what it is about."""


def command_not_modelled(name: str) -> HmpCommand | None:
    """The command that says so, if `name` is one of them."""
    subject = NOT_MODELLED.get(name)
    if subject is None:
        return None

    def refuse(hmp: Hmp, args: Annotated[str, Rest()] = "") -> str:
        raise CommandError(f"{name}: not modelled: there is nothing here of {subject}")

    refuse.__doc__ = f"not modelled: {subject}"
    return HmpCommand(name, refuse, preconfig=True)
