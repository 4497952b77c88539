# Instruction sets of the probe kernels: one table per file, chosen at run time. Contraction to FMA is wanted here.
set_source_files_properties(cpu/probe_generic.cpp PROPERTIES COMPILE_OPTIONS "-O3;-ffp-contract=fast")
set_source_files_properties(cpu/probe_avx2.cpp PROPERTIES COMPILE_OPTIONS "-O3;-mavx2;-mfma;-ffp-contract=fast")
set_source_files_properties(cpu/probe_avx512.cpp PROPERTIES COMPILE_OPTIONS
  "-O3;-mavx512f;-mavx512vl;-mavx512bw;-mavx2;-mfma;-mprefer-vector-width=512;-ffp-contract=fast")
