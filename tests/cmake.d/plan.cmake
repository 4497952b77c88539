add_script_test(plan_test)
add_script_test(scale_study_test)
add_script_test(simulation_test ${PROJECT_SOURCE_DIR}/tools/simulate_cluster.py)
