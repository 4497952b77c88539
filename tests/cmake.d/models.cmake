# Small models on a shared machine: threads that wait sleep, or barriers spin away most of the time.
set_tests_properties(models PROPERTIES ENVIRONMENT "OMP_WAIT_POLICY=passive" TIMEOUT 600)
