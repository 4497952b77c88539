set_tests_properties(models PROPERTIES TIMEOUT 3600)
