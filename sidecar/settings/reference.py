"""The reference page of the settings, ``deploy/reference/settings.md``: ``sidecar config reference`` prints it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, assert_never

from sidecar.settings.table import SETTINGS, Setting, Shape, default_text

_HEAD: Final = """\
# Settings of `sidecar serve`

<!-- Written by `sidecar config reference`; a test compares it with the code. -->

One YAML file holds them all: `sidecar serve --config sidecar.yaml`. An environment variable stands over the file, and
a flag over both; a list is replaced as a whole. Relative paths in the file start at the file's folder, others at the
working directory. Unknown keys, anchors, aliases and tags are refused. Several values of one environment variable
have commas between them; the flags of lists may be repeated.

`sidecar config check sidecar.yaml` says whether `serve` would start with it, and reads the bundles and keys that it
names (last good ones are left out); with `--text-only` it leaves those alone. `sidecar config show sidecar.yaml`
prints the settings in force and where each comes from. `sidecar config schema` prints a JSON schema for editors.
"""

_EXAMPLE: Final = """\
## Example

```yaml
upstream: triton:8001
listen: 0.0.0.0:9001
admin: 0.0.0.0:9002
bundles:
  - assistant.gates
  - path: planner.gates
    name: planner-v2
    mode: shadow
    modes: {keep-lane: enforce}
outside: refuse
message_limit: 16MiB
upstream_timeout: 500ms
drain: 20s
trusted_keys: [ops.pub]
```
"""

_NOTES: Final = """\
Units are written with the number: `ms`, `s`, `m` or `min`, `h` for durations, up to a week; `B`, `KiB`, `MiB`, `GiB`
for sizes, up to 2 GiB less one byte.

While `serve` runs it follows the file, looked at every `bundle_poll` and on SIGHUP, in {hot}. Calls in flight finish
under what they began with. A change of another setting is reported and waits for a restart; a file that cannot be
used changes nothing and is reported (`/status`, `gate_settings_failing`). Flags and environment stand over the file
as before. A bundle that is taken out of `bundles` goes on guarding its model until a restart.

Where modes meet, the more special one holds: the property's, then the bundle's, then the sidecar's `mode`, then what
the property file says. `mode` from the environment or a flag replaces all modes in the file.
"""


def reference() -> str:
    """The page, in Markdown."""
    rows = [
        (
            f"`{setting.name}`",
            _kind(setting),
            _default(setting),
            f"`{setting.variable}`" if setting.flag else "",
            f"`{setting.flag}`" if setting.flag else "",
            setting.meaning,
        )
        for setting in SETTINGS
    ]
    return "\n".join(
        [
            _HEAD,
            *_table(("setting", "value", "default", "environment", "flag", "meaning"), rows),
            "",
            *(line for setting in SETTINGS if setting.parts for line in _parts(setting)),
            _NOTES.format(hot=_hot()),
            _EXAMPLE.rstrip(),
            "",
        ]
    )


def _hot() -> str:
    *names, last = (f"`{setting.name}`" for setting in SETTINGS if setting.hot)
    return f"{', '.join(names)} and {last}"


def _parts(setting: Setting) -> Iterator[str]:
    """What a setting's mapping has, and then what the mappings within it have."""
    whole = f"An item of `{setting.name}`" if setting.shape is Shape.LIST else f"`{setting.name}`"
    alternatives = ", ".join(f"`{name}`" for name in setting.exactly_one)
    more = f", exactly one of {alternatives} among them" if alternatives else ""
    alone = f"`{setting.kind.metavar}`, or a mapping (in the file only)" if setting.flag else "a mapping"
    yield f"{whole} is {alone} with these keys{more}:"
    yield ""
    rows = [(f"`{part.name}`", _kind(part), _default(part), part.meaning) for part in setting.parts]
    yield from _table(("key", "value", "default", "meaning"), rows)
    yield ""
    for part in setting.parts:
        if part.parts:
            yield from _parts(part)


def _kind(setting: Setting) -> str:
    match setting.shape:
        case Shape.ONE:
            return setting.kind.name
        case Shape.LIST:
            return f"list: {setting.kind.name}"
        case Shape.PER_PROPERTY:
            return f"by property id: {setting.kind.name}"
        case Shape.PER_TENSOR:
            return f"by tensor name: {setting.kind.name}"
        case _:
            assert_never(setting.shape)


def _default(setting: Setting) -> str:
    text = default_text(setting)
    return text if setting.unset or text in ("required", "none") else f"`{text}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
