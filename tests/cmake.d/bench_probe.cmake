# bench_probe: probe passes as a fraction of reading the features, Gram and Cholesky in GFLOP/s.
if(SONDE_BENCHMARKS)
  add_executable(bench_probe bench/bench_probe.cpp)
  target_link_libraries(bench_probe PRIVATE sonde_kernels sonde_warnings)
endif()
