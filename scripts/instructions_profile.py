"""Reads a profile of callgrind and says which layer spent its instructions.

The profile has a count for each instruction and for each call. `addr2line` names the
source of an instruction and of all functions that it was inlined into, so that a layer
keeps its cost when the compiler merges it with another one. Code of no layer is charged
to its callers, in proportion to what each call cost."""

import collections
import os
import re
import subprocess

# Rounds of passing the cost of shared code on to callers, at most: recursive code comes
# close to its shares, and never reaches them.
ROUNDS = 60
CLOSE = 1e-4
REST = "the rest"
CRATE = re.compile(r"/(?:registry/src/[^/]+|vendor)/([A-Za-z0-9_-]+?)(?:-\d+\.\d[^/]*)?/")


class Layers:
    """Which source belongs to which layer."""

    def __init__(self, table, shared, root):
        self.root = os.path.realpath(root) + "/"
        self.crates = {entry: name for name, entries in table.items() for entry in entries if "/" not in entry}
        folders = [(entry, name) for name, entries in table.items() for entry in entries if "/" in entry]
        folders += [(entry, None) for entry in shared]
        self.folders = sorted(folders, key=lambda pair: -len(pair[0]))

    def of(self, path):
        """The layer of a source file, or None."""
        if path.startswith(self.root):
            inside = path[len(self.root):]
            return next((name for folder, name in self.folders if inside.startswith(folder)), None)
        crate = CRATE.search(path)
        return self.crates.get(crate[1]) if crate else None


class Profile:
    """Instructions of one binary and the libraries that it called."""

    def __init__(self, path, binary):
        self.total = 0
        # Function -> address -> instructions; functions are (object, name).
        self.own = collections.defaultdict(collections.Counter)
        # (caller, address of the call, callee) -> instructions, the callee's calls included.
        self.calls = collections.Counter()
        self.binary = os.path.realpath(binary)
        self._read(path)

    def _read(self, path):
        obj = function = callee_obj = callee = None
        is_call = False
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, equals, value = line.rstrip("\n").partition("=")
                if line.startswith("0x"):
                    address, count = line.split()
                    if is_call:
                        self.calls[(function, int(address, 16), callee)] += int(count)
                        is_call, callee_obj = False, None
                    else:
                        self.own[function][int(address, 16)] += int(count)
                        self.total += int(count)
                elif not equals:
                    continue
                elif key == "ob":
                    obj = value
                elif key == "fn":
                    function = (obj, value)
                elif key == "cob":
                    callee_obj = value
                elif key == "cfn":
                    callee = (callee_obj or obj, value)
                elif key == "calls":
                    is_call = True

    def sources(self):
        """Address -> the source files of its inline stack, innermost first; the binary's own only."""
        addresses = {address for function, own in self.own.items() if self._is_own(function) for address in own}
        addresses |= {address for function, address, _ in self.calls if self._is_own(function)}
        asked = "".join(f"{address:#x}\n" for address in sorted(addresses))
        command = ["addr2line", "--addresses", "--inlines", f"--exe={self.binary}"]
        answer = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
        stacks, current = {}, []
        for line in answer.splitlines():
            if line.startswith("0x"):
                current = stacks.setdefault(int(line, 16), [])
            else:
                current.append(os.path.normpath(line.rpartition(":")[0]))
        return stacks

    def _is_own(self, function):
        return function is not None and function[0] == self.binary

    def by_layer(self, layers):
        """Layer -> source file -> instructions."""
        named = {}
        for address, stack in self.sources().items():
            found = ((layer, path) for path in stack if (layer := layers.of(path)))
            named[address] = next(found, None)

        def source(function, address):
            return named.get(address) if self._is_own(function) else None

        inbound = collections.defaultdict(collections.Counter)
        for (caller, address, callee), count in self.calls.items():
            if caller != callee:
                inbound[callee][source(caller, address) or caller] += count
        shares = self._shares(inbound)
        files = collections.defaultdict(collections.Counter)
        for function, own in self.own.items():
            shared = 0
            for address, count in own.items():
                where = source(function, address)
                if where:
                    files[where[0]][where[1]] += count
                else:
                    shared += count
            for (layer, path), share in shares.get(function, {(REST, ""): 1.0}).items():
                files[layer][path] += shared * share
        return files

    def _shares(self, inbound):
        """Function -> (layer, file) -> share of its shared code that they pay for."""
        shares = {}
        # A caller is a function or a source; both are pairs, of which `own` has the functions.
        functions = set(self.own) | {caller for caller, _, _ in self.calls}
        for _ in range(ROUNDS):
            following = {}
            for function, callers in inbound.items():
                mixed = collections.Counter()
                for caller, count in callers.items():
                    if caller not in functions:
                        mixed[caller] += count
                    elif caller in shares:
                        for source, share in shares[caller].items():
                            mixed[source] += count * share
                    elif caller not in inbound:
                        mixed[(REST, "")] += count
                whole = sum(mixed.values())
                if whole:
                    following[function] = {source: count / whole for source, count in mixed.items()}
            settled = all(abs(share - shares.get(function, {}).get(source, 0)) < CLOSE
                          for function, mixed in following.items() for source, share in mixed.items())
            shares = following
            if settled:
                break
        return shares
