"""Display adapters: the VGA, with its registers, its memory, the Bochs display interface and what makes a picture of it."""

QOM_MODULES = ("vga",)
