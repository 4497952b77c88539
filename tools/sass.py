"""What `cuobjdump -sass` shows of kernels: how many instructions of which kind, and what their control bits say.

The upper word of an instruction holds, from bit 41, how many clocks its warp waits before the next one (4 bits), and
from bit 52 a mask of the six counters it waits for: loads, special functions, shared memory (6 bits).
"""
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field

FUNCTION = re.compile(r"^\s*Function : (\S+)")
ARCH = re.compile(r"^\s*(?:code for|arch =) (sm_\w+)")
INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);\s*/\* 0x([0-9a-f]{16}) \*/")
UPPER = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/")


@dataclass
class Instruction:
    address: int
    op: str
    operands: str
    stall: int = 0
    waits: bool = False


@dataclass
class Code:
    arch: str
    instructions: list = field(default_factory=list)

    def count(self, pattern, of=None):
        return sum(re.match(pattern, i.op) is not None for i in of or self.instructions)

    def mix(self):
        """Counts by kind; `wide`: the share of global accesses that are of 16 bytes."""
        kinds = {"HMMA": r"HMMA", "LDSM": r"LDSM", "LDGSTS": r"LDGSTS", "LDG": r"LDG(\.|$)", "STG": r"STG", "LDS": r"LDS(\.|$)",
                 "STS": r"STS", "local": r"(LDL|STL)", "MUFU": r"MUFU", "SHFL": r"SHFL", "BAR": r"BAR"}
        found = {name: self.count(pattern) for name, pattern in kinds.items()}
        accesses = [i for i in self.instructions if re.match(r"(LDG|STG|LDGSTS)(\.|$)", i.op)]
        found["wide"] = sum(".128" in i.op for i in accesses) / len(accesses) if accesses else 0
        found["all"] = sum(i.op != "NOP" for i in self.instructions)
        found["stall"] = sum(i.stall for i in self.instructions) / max(1, len(self.instructions))
        found["waits"] = sum(i.waits for i in self.instructions) / max(1, len(self.instructions))
        return found

    def loops(self):
        """The bodies of backward branches."""
        spans = []
        for i in self.instructions:
            target = re.search(r"(0x[0-9a-f]+)", i.operands) if i.op.startswith("BRA") else None
            if target and int(target.group(1), 16) < i.address:
                spans.append((int(target.group(1), 16), i.address))
        return [[i for i in self.instructions if a <= i.address <= b] for a, b in sorted(spans)]


def disassemble(objects):
    """{(mangled name, arch): Code}; empty without cuobjdump and nvdisasm."""
    if not shutil.which("cuobjdump") or not shutil.which("nvdisasm"):
        return {}
    codes = {}
    for path in objects:
        text = subprocess.run(["cuobjdump", "-sass", path], capture_output=True, text=True, check=True).stdout
        arch, code = "", None
        for line in text.splitlines():
            if found := ARCH.match(line):
                arch = found.group(1)
            elif found := FUNCTION.match(line):
                code = codes[found.group(1), arch] = Code(arch)
            elif found := INSTRUCTION.match(line):
                code.instructions.append(Instruction(int(found.group(1), 16), found.group(2), found.group(3)))
            elif code and code.instructions and (found := UPPER.match(line)):
                upper = int(found.group(1), 16)
                code.instructions[-1].stall = upper >> 41 & 15
                code.instructions[-1].waits = upper >> 52 & 63 != 0
    return codes
