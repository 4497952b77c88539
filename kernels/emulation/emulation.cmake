# The emulated build of kernels/cuda: the same sources through g++ or clang++, with CUDA's names from here.
# A library per way of looking: plain (in every build), and those that the tests add.
set(emulation_folder ${CMAKE_CURRENT_LIST_DIR})
file(GLOB emulation_sources CONFIGURE_DEPENDS ${emulation_folder}/*.cpp)
file(GLOB emulated_sources CONFIGURE_DEPENDS ${emulation_folder}/../cuda/*.cu ${emulation_folder}/../cuda/*.cpp)
list(FILTER emulated_sources EXCLUDE REGEX "no_cuda\\.cpp$")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(FILTER emulation_sources EXCLUDE REGEX "fiber_switch_ucontext\\.cpp$")
else()
  list(FILTER emulation_sources EXCLUDE REGEX "fiber_switch\\.cpp$")
endif()
set_source_files_properties(${emulated_sources} PROPERTIES LANGUAGE CXX)

# add_emulated_library(NAME [KERNELS sources...] [CHECKS sources...] [FLAGS kernel flags...] [MACHINE_FLAGS flags...])
# FLAGS compile the kernels, MACHINE_FLAGS the emulation itself; CHECKS replace access_unchecked.cpp.
function(add_emulated_library name)
  cmake_parse_arguments(arg "" "" "CHECKS;FLAGS;MACHINE_FLAGS" ${ARGN})
  set(machine ${emulation_sources})
  if(arg_CHECKS)
    list(FILTER machine EXCLUDE REGEX "access_unchecked\\.cpp$")
    list(APPEND machine ${arg_CHECKS})
  endif()
  add_library(${name}_machine OBJECT ${machine})
  target_link_libraries(${name}_machine PUBLIC sonde_kernels PRIVATE sonde_warnings)
  target_compile_options(${name}_machine PRIVATE -fno-strict-aliasing ${arg_MACHINE_FLAGS})
  add_library(${name} STATIC $<TARGET_OBJECTS:${name}_machine> ${emulated_sources})
  target_link_libraries(${name} PUBLIC sonde_kernels PRIVATE sonde_warnings)
  target_compile_definitions(${name} PRIVATE SONDE_GPU=emulated)
  # Kernels see bytes as what they please; a variable that nobody set is no zero by luck.
  target_compile_options(${name} PRIVATE -fno-strict-aliasing -ftrivial-auto-var-init=pattern -Wno-unknown-pragmas
                         $<$<COMPILE_LANGUAGE:CXX>:-x$<SEMICOLON>c++> ${arg_FLAGS})
endfunction()
