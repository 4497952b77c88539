# The emulated build of kernels/cuda: the same sources through g++ or clang++, with CUDA's names from here.
# A library per way of looking: plain (in every build), and those that the tests add.
set(emulation_folder ${CMAKE_CURRENT_LIST_DIR})
file(GLOB emulation_sources CONFIGURE_DEPENDS ${emulation_folder}/*.cpp)
file(GLOB emulated_sources CONFIGURE_DEPENDS ${emulation_folder}/../cuda/*.cu ${emulation_folder}/../cuda/*.cpp)
list(FILTER emulated_sources EXCLUDE REGEX "no_(cuda|nccl)\\.cpp$")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(FILTER emulation_sources EXCLUDE REGEX "fiber_switch_ucontext\\.cpp$")
else()
  list(FILTER emulation_sources EXCLUDE REGEX "fiber_switch\\.cpp$")
endif()
set_source_files_properties(${emulated_sources} PROPERTIES LANGUAGE CXX)

# add_emulated_library(NAME [CHECKS sources...] [FLAGS flags of kernels and of who links...] [MACHINE_FLAGS flags...])
# MACHINE_FLAGS compile the emulation itself; CHECKS replace access_unchecked.cpp.
function(add_emulated_library name)
  cmake_parse_arguments(arg "" "" "CHECKS;FLAGS;MACHINE_FLAGS" ${ARGN})
  set(machine ${emulation_sources})
  if(arg_CHECKS)
    list(FILTER machine EXCLUDE REGEX "access_unchecked\\.cpp$")
    list(APPEND machine ${arg_CHECKS})
  endif()
  add_library(${name}_machine OBJECT EXCLUDE_FROM_ALL ${machine})
  target_link_libraries(${name}_machine PUBLIC sonde_kernels)
  target_compile_options(${name}_machine PRIVATE -fno-strict-aliasing ${arg_MACHINE_FLAGS})
  add_library(${name} STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:${name}_machine> ${emulated_sources})
  target_link_libraries(${name} PUBLIC sonde_kernels)
  if(NOT arg_FLAGS)  # gcc's warnings after a sanitizer's pass are mostly false; the plain build has them all
    target_link_libraries(${name}_machine PRIVATE sonde_warnings)
    target_link_libraries(${name} PRIVATE sonde_warnings)
  endif()
  target_compile_definitions(${name} PRIVATE SONDE_GPU=emulated)
  target_compile_options(${name} PUBLIC ${arg_FLAGS} PRIVATE ${kernel_flags} -x c++)
endfunction()

# Kernels see bytes as what they please; a variable that nobody set is no zero by luck.
set(kernel_flags -fno-strict-aliasing -ftrivial-auto-var-init=pattern -Wno-unknown-pragmas)
add_emulated_library(sonde_emulated)

# Under AddressSanitizer, and with every access checked for races: what tests link. -fsanitize=thread is for the
# compiler alone: race/ answers its calls, and no sanitizer is linked.
if(SONDE_TESTS AND NOT SONDE_SANITIZE)
  set(asan_flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1 -O1)
  add_emulated_library(sonde_emulated_asan FLAGS ${asan_flags} MACHINE_FLAGS ${asan_flags})
  target_link_options(sonde_emulated_asan PUBLIC -fsanitize=address,undefined)

  file(GLOB race_sources CONFIGURE_DEPENDS ${emulation_folder}/race/*.cpp)
  add_emulated_library(sonde_emulated_race CHECKS ${race_sources}
                       FLAGS -fsanitize=thread -g1 -O1 -fno-tree-vectorize -fno-tree-slp-vectorize)
endif()
