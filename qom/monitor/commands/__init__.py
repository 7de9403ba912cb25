"""The commands of QMP monitors, one file a subject; a file is imported when one of its commands is first used."""

QOM_COMMANDS = {
    "protocol": ("qmp_capabilities", "query-version", "query-commands", "query-qmp-schema"),
    "running": (
        "query-status",
        "stop",
        "cont",
        "system_reset",
        "system_powerdown",
        "quit",
        "query-name",
        "query-uuid",
        "x-exit-preconfig",
    ),
    "memory": (
        "memsave",
        "pmemsave",
        "dump-guest-memory",
        "query-dump",
        "query-dump-guest-memory-capability",
    ),
    "stats": ("query-stats", "query-stats-schemas"),
    "pci": ("query-pci",),
    "block": ("query-block", "query-named-block-nodes", "blockdev-add", "blockdev-del", "block_resize"),
    "descriptors": ("getfd", "closefd", "add-fd", "remove-fd", "query-fdsets"),
    "reactions": ("set-action", "watchdog-set-action", "inject-nmi", "system_wakeup"),
    "numa": ("set-numa-node",),
    "yank": ("query-yank", "yank"),
    "generation": ("query-vm-generation-id",),
    "tree": ("qom-list", "qom-get", "qom-set"),
}
"""By file, the commands in it."""
