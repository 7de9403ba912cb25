"""Statistics of a running machine: exits by reason, for each processor and in sum.

Providers: "user" counts exits to user space and "inner" those that the accelerator's inner half served, by reason
(QEMU has "kvm", whose numbers come from the kernel and are not read here).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

from qom.monitor import Boxed, CommandError, Variants, command

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

Provider = Literal["user", "inner"]
Target = Literal["vm", "vcpu"]
PROVIDERS: tuple[Provider, ...] = ("user", "inner")


class StatsRequest(TypedDict):
    """A provider, and which of its statistics."""

    provider: Provider
    names: NotRequired[list[str]]


class _Filter(TypedDict):
    target: Target
    providers: NotRequired[list[StatsRequest]]


class _OfVcpus(TypedDict):
    vcpus: NotRequired[list[str]]


class Stats(TypedDict):
    """One statistic."""

    name: str
    value: int | bool | list[int]


StatsResult = TypedDict("StatsResult", {"provider": Provider, "qom-path": NotRequired[str], "stats": list[Stats]})

StatsSchemaValue = TypedDict(
    "StatsSchemaValue",
    {
        "name": str,
        "type": Literal["cumulative", "instant", "peak", "linear-histogram", "log2-histogram"],
        "unit": NotRequired[Literal["bytes", "seconds", "cycles", "boolean"]],
        "base": NotRequired[int],
        "exponent": int,
        "bucket-size": NotRequired[int],
    },
)


class StatsSchema(TypedDict):
    """The statistics of a provider for one kind of target."""

    provider: Provider
    target: Target
    stats: list[StatsSchemaValue]


def _counts(vm: VirtualMachine) -> dict[int, dict[str, dict[str, int]]]:
    """By processor, provider and reason."""
    accel: Any = vm.machine.accel
    return {int(number): halves for number, halves in accel.exit_counts().items()}


@command("query-stats")
def query_stats(
    vm: VirtualMachine, filter: Annotated[dict[str, Any], Boxed(Variants("target", _Filter, {"vcpu": _OfVcpus}))]
) -> list[StatsResult]:
    """Exits by reason: of each processor (target vcpu), or of all together (target vm)."""
    counts = _counts(vm)
    paths = {index: cpu.path for index, cpu in enumerate(vm.cpus)}
    asked_of: list[StatsRequest] = filter.get("providers") or [{"provider": one} for one in PROVIDERS]
    wanted = {one["provider"]: one.get("names") for one in asked_of}
    if filter["target"] == "vm":
        groups: list[tuple[str | None, list[int]]] = [(None, sorted(counts))]
    else:
        asked = filter.get("vcpus")
        for path in asked or ():
            if path not in paths.values():
                raise CommandError(
                    f"Parameter 'vcpus' cannot be '{path}': expected {', '.join(paths.values()) or 'none'}"
                )
        groups = [(path, [n]) for n, path in paths.items() if asked is None or path in asked]
    out: list[StatsResult] = []
    for provider in PROVIDERS:
        if provider not in wanted:
            continue
        names = wanted[provider]
        for found, numbers in groups:
            sums: dict[str, int] = {}
            for number in numbers:
                for reason, n in counts.get(number, {}).get(provider, {}).items():
                    if names is None or reason in names:
                        sums[reason] = sums.get(reason, 0) + n
            made: StatsResult = {
                "provider": provider,
                "stats": [{"name": k, "value": v} for k, v in sorted(sums.items())],
            }
            if found is not None:
                made["qom-path"] = found
            out.append(made)
    return out


@command("query-stats-schemas")
def query_stats_schemas(vm: VirtualMachine, provider: Provider | None = None) -> list[StatsSchema]:
    """The statistics there are now: a reason is known from its first exit on."""
    counts = _counts(vm)
    out: list[StatsSchema] = []
    for one in PROVIDERS if provider is None else (provider,):
        reasons = sorted({reason for halves in counts.values() for reason in halves.get(one, {})})
        for target in ("vm", "vcpu"):
            rows: list[StatsSchemaValue] = [{"name": r, "type": "cumulative", "exponent": 0} for r in reasons]
            out.append({"provider": one, "target": target, "stats": rows})
    return out
