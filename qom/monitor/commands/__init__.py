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
    "yank": ("query-yank", "yank"),
    "generation": ("query-vm-generation-id",),
    "tree": ("qom-list", "qom-get", "qom-set"),
}
"""By file, the commands in it."""
