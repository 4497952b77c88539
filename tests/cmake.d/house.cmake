# The rules of the house: direction of includes, headers that compile alone, format.
find_package(HDF5 REQUIRED COMPONENTS C)
add_test(NAME layers COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/check_layers.py ${PROJECT_SOURCE_DIR})
add_test(NAME layers_checker COMMAND ${SONDE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/scripts/check_layers.py --self-test)

list(TRANSFORM HDF5_C_INCLUDE_DIRS PREPEND -isystem OUTPUT_VARIABLE hdf5_flags)
add_test(NAME headers COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/scripts/check_headers.sh ${PROJECT_SOURCE_DIR}
         ${CMAKE_CXX_COMPILER} -std=c++20 -Wno-psabi ${hdf5_flags} -DSONDE_SOURCE_DIR=)

find_program(CLANG_FORMAT clang-format-14)
if(CLANG_FORMAT)
  add_test(NAME format COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/scripts/check_format.sh ${PROJECT_SOURCE_DIR} ${CLANG_FORMAT})
endif()
foreach(name layers layers_checker headers format)
  if(TEST ${name})
    set_tests_properties(${name} PROPERTIES LABELS house)
  endif()
endforeach()
