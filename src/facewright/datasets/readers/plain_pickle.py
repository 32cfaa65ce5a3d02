"""Pickles that hold nothing but data, read without unpickling.

`pickle.load` runs whatever a file asks for. This reader knows the instructions with which lists,
tuples, bytes, whole numbers and booleans are written by Python 2 and 3 (protocols 0 to 5), and
NumPy arrays of bytes; anything else is refused by its name. Nothing that a file names is ever
imported or called: the few names that pass stand for what is done here instead.

Strings stay in the file: what is returned says where they lie. Instructions are counted, so that a
small file cannot fill the memory, and are carried out without recursion.

Instructions: CPython, `Lib/pickletools.py`.
"""

import os
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Never

from facewright.datasets.readers import MAX_IMAGE_BYTES
from facewright.errors import DatasetError

MAX_STEPS = 2_000_000  # instructions; a NumPy array takes 17, bytes take 2 to 8
MAX_WRITTEN = MAX_IMAGE_BYTES // 4  # bytes of a string in escaped or encoded form; it may unfold

_LINE = 256  # bytes of a number or of a name
_NAMES = {
    "_codecs.encode": "encode",
    "__builtin__.bytes": "bytes",
    "builtins.bytes": "bytes",
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "numpy.core.multiarray._reconstruct": "reconstruct",
    "numpy._core.multiarray._reconstruct": "reconstruct",
    "numpy.core.multiarray.scalar": "scalar",
    "numpy._core.multiarray.scalar": "scalar",
    "numpy.core.numeric._frombuffer": "frombuffer",
    "numpy._core.numeric._frombuffer": "frombuffer",
}


class Text(NamedTuple):
    """A string that stays in the file: bytes, or text where `is_bytes` is false."""

    offset: int
    length: int  # bytes in the file
    form: str  # "plain", or how it is written: "escaped", "utf-8", "raw-unicode-escape"
    is_bytes: bool


@dataclass
class Array:
    """A NumPy array; `kind` is NumPy's name of the elements' type."""

    kind: str = ""
    shape: tuple[int, ...] = ()
    data: Text | None = None


@dataclass(frozen=True)
class _Name:
    """One of the names that pass."""

    meaning: str


@dataclass(frozen=True)
class _Kind:
    """The type of an array's elements."""

    kind: str


def load_plain(file: BinaryIO, *, source: str) -> Any:
    """What the pickle `file` holds: lists, tuples, ints, booleans, None, `Text` and `Array`.

    The value may contain itself; whoever walks it should know how deep it must be.

    Raises:
        DatasetError: it asks for anything else, is damaged or cut short, goes on after its end, or
            has more than MAX_STEPS instructions.
    """
    machine = _Machine(file, source)
    try:
        for _ in range(MAX_STEPS):
            code = file.read(1)
            if code == b".":
                if file.read(1):
                    raise ValueError("it goes on after its end")
                return machine.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                _refuse(source, _instruction(code))
            step(machine)
    except _BROKEN as error:
        raise DatasetError(
            f"{source} is no pickle that can be read to its end "
            f"({error or type(error).__name__}, before byte {file.tell()}): get it again"
        ) from error
    raise DatasetError(
        f"{source} has more than {MAX_STEPS} pickle instructions: import a folder or an archive"
    )


def read_bytes(file: BinaryIO, value: Text, *, source: str) -> bytes:
    """The bytes that `value` stands for.

    Raises:
        DatasetError: it is text, or is not written as it should be, or is no longer in the file.
    """
    file.seek(value.offset)
    data = file.read(value.length)
    try:
        if len(data) < value.length:
            raise ValueError("it became shorter")
        if not value.is_bytes:
            raise ValueError("there is text in place of bytes")
        if value.form == "plain":
            return data
        if value.form == "escaped":
            return _ESCAPE.sub(_unescaped, data)
        return data.decode(value.form).encode("latin-1")
    except ValueError as error:
        raise DatasetError(
            f"{source}: the string at byte {value.offset} cannot be read ({error}): get it again"
        ) from error


# The escapes of Python 2's repr.
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\", b"'": b"'", b'"': b'"'}


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes.fromhex(code[1:].decode())
    if code not in _ESCAPED:
        raise ValueError(f"{match[0]!r} is no escape")
    return _ESCAPED[code]


_BROKEN = (IndexError, KeyError, TypeError, ValueError, EOFError)


def _instruction(code: bytes) -> str:
    if not code:
        raise EOFError("it is cut short")
    known = pickletools.code2op.get(code.decode("latin-1"))  # type: ignore[attr-defined]
    return f"the instruction {known.name}" if known else f"the unknown instruction {code!r}"


def _refuse(source: str, what: str) -> Never:
    shown = what if what.isascii() and what.isprintable() else ascii(what)
    raise DatasetError(
        f"{source} asks for {shown}, and only lists, tuples, bytes and booleans are read: "
        "nothing was run; get the file from a source that you trust"
    )


class _Machine:
    """The stack, the marks in it and the memo, as pickle has them."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self.file = file
        self.source = source
        self.end = os.fstat(file.fileno()).st_size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    # Arguments, as they stand in the file

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError("it is cut short")
        value: int = struct.unpack(form, data)[0]
        return value

    def line(self, limit: int = _LINE) -> bytes:
        data = self.file.readline(limit)
        if not data.endswith(b"\n"):
            raise ValueError("a line does not end")
        return data[:-1]

    def two_lines(self) -> tuple[str, str]:
        return self.line().decode("latin-1"), self.line().decode("latin-1")

    def string(self, length: int, form: str, *, is_bytes: bool) -> None:
        """Push a string that begins here, and go on behind it."""
        offset = self.file.tell()
        if not 0 <= length <= self.end - offset:
            raise EOFError(f"a string claims {length} bytes")
        if length > (MAX_IMAGE_BYTES if form == "plain" else MAX_WRITTEN):
            raise ValueError(f"a string of {length} bytes is larger than an image can be")
        self.file.seek(length, os.SEEK_CUR)
        self.stack.append(Text(offset, length, form, is_bytes))

    def short(self, value: object) -> str:
        """A name or an option, which must be a short string of either kind."""
        if not isinstance(value, Text) or value.length > _LINE:
            raise ValueError("a name is no short string")
        here = self.file.tell()
        data = read_bytes(self.file, value._replace(is_bytes=True), source=self.source)
        self.file.seek(here)
        return data.decode("latin-1")

    # Instructions

    def push_line_number(self) -> None:
        text = self.line()
        self.stack.append(text == b"01" if text in (b"00", b"01") else int(text))

    def push_escaped(self) -> None:
        offset = self.file.tell()
        text = self.line(MAX_WRITTEN)
        if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
            raise ValueError("a string is not quoted")
        self.stack.append(Text(offset + 1, len(text) - 2, "escaped", True))

    def push_unicode_line(self) -> None:
        offset = self.file.tell()
        text = self.line(MAX_WRITTEN)
        self.stack.append(Text(offset, len(text), "raw-unicode-escape", False))

    def marked(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("something is appended to what is no list")
        target.extend(items)

    def pack(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError("the stack is empty")
        items = tuple(self.stack[len(self.stack) - size :])
        del self.stack[len(self.stack) - size :]
        self.stack.append(items)

    def keep(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def name(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in _NAMES:
            _refuse(self.source, full)
        self.stack.append(_Name(_NAMES[full]))

    def name_on_stack(self) -> None:
        name, module = self.short(self.stack.pop()), self.short(self.stack.pop())
        self.name(module, name)

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple) or not isinstance(function, _Name):
            raise TypeError("something is called that is no function")
        self.stack.append(self.result(function.meaning, arguments))

    def result(self, meaning: str, arguments: tuple[Any, ...]) -> Any:
        match meaning, arguments:
            case "bytes", ():
                return Text(0, 0, "plain", True)
            case "encode", (Text(is_bytes=False) as text, encoding):
                if self.short(encoding) in ("latin1", "latin-1"):
                    return text._replace(is_bytes=True)
            case "dtype", (Text() as kind, int(), int()):
                return _Kind(self.short(kind))
            case "reconstruct", (_Name("ndarray"), (0,), Text()):
                return Array()
            case "frombuffer", (Text(is_bytes=True) as data, _Kind(kind), tuple(shape), Text()):
                return self.array(kind, shape, data)
            case "scalar", (_Kind("b1"), Text(is_bytes=True) as value):
                return self.short(value) == "\1"
        raise ValueError(f"{meaning} is called in a way that is not known")

    def array(self, kind: str, shape: tuple[Any, ...], data: Text) -> Array:
        if not all(type(size) is int for size in shape):
            raise TypeError("an array's shape is not of numbers")
        return Array(kind, shape, data)

    def build(self) -> None:
        """Give an array its content, or an element type its details, which say nothing new."""
        state = self.stack.pop()
        match self.stack[-1], state:
            case Array() as target, (int(), tuple(shape), _Kind(kind), int(), Text() as data):
                built = self.array(kind, shape, data)
                target.kind, target.shape, target.data = built.kind, built.shape, built.data
            case _Kind(), (int(), Text(), None, None, None, int(), int(), int()):
                pass
            case _:
                _refuse(self.source, "the instruction BUILD on something else")


Step = Callable[[_Machine], None]


def _strings() -> dict[bytes, Step]:
    forms = (
        (b"U", "<B", "plain", True),  # Python 2
        (b"T", "<i", "plain", True),
        (b"C", "<B", "plain", True),
        (b"B", "<I", "plain", True),
        (b"\x8e", "<Q", "plain", True),
        (b"\x96", "<Q", "plain", True),  # a bytearray, of which protocol 5 makes arrays
        (b"\x8c", "<B", "utf-8", False),
        (b"X", "<I", "utf-8", False),
        (b"\x8d", "<Q", "utf-8", False),
    )

    def step(length: str, form: str, is_bytes: bool) -> Step:
        return lambda machine: machine.string(machine.number(length), form, is_bytes=is_bytes)

    return {code: step(length, form, is_bytes) for code, length, form, is_bytes in forms}


def _protocol(machine: _Machine) -> None:
    if machine.number("<B") > 5:
        raise ValueError("it is of a protocol after 5")


def _frame(machine: _Machine) -> None:
    if machine.number("<Q") > machine.end - machine.file.tell():
        raise EOFError("a frame is cut short")


def _pushes(value: Callable[[_Machine], Any]) -> Step:
    return lambda machine: machine.stack.append(value(machine))


_STEPS: dict[bytes, Step] = _strings() | {
    b"\x80": _protocol,
    b"\x95": _frame,
    b"(": lambda machine: machine.marks.append(len(machine.stack)),
    b"N": _pushes(lambda machine: None),
    b"\x88": _pushes(lambda machine: True),
    b"\x89": _pushes(lambda machine: False),
    b"J": _pushes(lambda machine: machine.number("<i")),
    b"K": _pushes(lambda machine: machine.number("<B")),
    b"M": _pushes(lambda machine: machine.number("<H")),
    b"I": _Machine.push_line_number,
    b"S": _Machine.push_escaped,
    b"V": _Machine.push_unicode_line,
    b"]": _pushes(lambda machine: []),
    b"l": _pushes(_Machine.marked),
    b"a": lambda machine: machine.extend([machine.stack.pop()]),
    b"e": lambda machine: machine.extend(machine.marked()),
    b")": _pushes(lambda machine: ()),
    b"t": _pushes(lambda machine: tuple(machine.marked())),
    b"\x85": lambda machine: machine.pack(1),
    b"\x86": lambda machine: machine.pack(2),
    b"\x87": lambda machine: machine.pack(3),
    b"p": lambda machine: machine.keep(int(machine.line())),
    b"q": lambda machine: machine.keep(machine.number("<B")),
    b"r": lambda machine: machine.keep(machine.number("<I")),
    b"\x94": lambda machine: machine.keep(len(machine.memo)),
    b"g": _pushes(lambda machine: machine.memo[int(machine.line())]),
    b"h": _pushes(lambda machine: machine.memo[machine.number("<B")]),
    b"j": _pushes(lambda machine: machine.memo[machine.number("<I")]),
    b"c": lambda machine: machine.name(*machine.two_lines()),
    b"i": lambda machine: _refuse(machine.source, ".".join(machine.two_lines())),
    b"\x93": _Machine.name_on_stack,
    b"R": _Machine.call,
    b"b": _Machine.build,
}
