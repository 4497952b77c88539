add_test(NAME demo_data COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/scripts/check_demo_data.sh ${PROJECT_SOURCE_DIR} ${SONDE_PYTHON})
set_tests_properties(demo_data PROPERTIES LABELS house)
