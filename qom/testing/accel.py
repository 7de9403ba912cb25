"""Whether an accelerator can be used here."""

from __future__ import annotations

from qom.errors import AccelError

__all__ = ["unusable"]


def unusable(name: str) -> str | None:
    """Why the accelerator `name` cannot be used on this host; None when it can, or nothing is known against it.

    Of a list ("kvm:simulated") each must be unusable for the list to be.
    """
    reasons = [_unusable(one) for one in name.split(":")]
    return None if None in reasons else "; ".join(reason for reason in reasons if reason is not None)


def _unusable(name: str) -> str | None:
    if name != "kvm":
        return None
    from accel.kvm.handles import KvmSystem

    try:
        KvmSystem().close()
    except AccelError as error:
        return str(error)
    return None
