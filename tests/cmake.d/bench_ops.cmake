# bench_ops: each op's speed as a fraction of the machine's limits, beside oneDNN's matmul where it is installed.
find_package(benchmark QUIET)
if(SONDE_BENCHMARKS AND benchmark_FOUND)
  find_library(SONDE_DNNL dnnl)
  add_executable(bench_ops bench/bench_ops.cpp
                 $<IF:$<BOOL:${SONDE_DNNL}>,bench/matmul_onednn.cpp,bench/no_matmul_onednn.cpp>)
  target_link_libraries(bench_ops PRIVATE sonde_kernels sonde_warnings benchmark::benchmark)
  if(SONDE_DNNL)
    target_link_libraries(bench_ops PRIVATE ${SONDE_DNNL})
  endif()
endif()
