# Each object file of an instruction set defines one global symbol, its table, and no weak one: a
# weak symbol compiled for AVX-512 could be the one that the linker keeps for every processor.
foreach(object ${OBJECTS})
  execute_process(COMMAND ${NM} --extern-only --defined-only ${object}
                  OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "nm cannot read ${object}")
  endif()
  string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
  list(LENGTH lines count)
  if(NOT count EQUAL 1 OR NOT symbols MATCHES " [DR] .*Table")
    message(FATAL_ERROR "${object} should define its table and nothing else:\n${symbols}")
  endif()
endforeach()
