# `sonde tokenize` from the outside, and the speed of tokenizers beside the tokenizers library (run by hand:
# tests/bench/tokenizer/tokenizer_speed.py).
add_script_test(tokenize_test)
if(SONDE_BENCHMARKS)
  add_executable(bench_tokenizer ${CMAKE_CURRENT_SOURCE_DIR}/bench/tokenizer/bench_tokenizer.cpp)
  target_link_libraries(bench_tokenizer PRIVATE sonde_io sonde_warnings)
endif()
