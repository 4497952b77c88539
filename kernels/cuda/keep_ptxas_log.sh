#!/bin/sh
# keep_ptxas_log.sh OBJECT COMMAND...: runs a compiler, keeps all it says in OBJECT.ptxas (registers, spills and shared
# memory of each kernel), and shows what is not of ptxas -v. Read by tools/gpu_evidence.py.
log="$1.ptxas"
shift
"$@" 2>"$log"
code=$?
grep -v -E '^ptxas info|^ +[0-9]+ bytes stack frame|^$' "$log" >&2
exit $code
