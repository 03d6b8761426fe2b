# fewbits_layer(NAME LINKS ...): the static library fewbits_NAME from src/NAME/**/*.cc and, with FEWBITS_TESTS, the
# test program NAME_test from src/NAME/**/*_test.cc. Instruction-set files get their own flags in src/NAME/flags.cmake.
if(FEWBITS_TESTS)
  enable_testing()
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

function(fewbits_layer name)
  cmake_parse_arguments(layer "" "" "LINKS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS src/${name}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")

  if(NOT sources)
    return()
  endif()
  add_library(fewbits_${name} STATIC ${sources})
  target_include_directories(fewbits_${name} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src> $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>)
  target_link_libraries(fewbits_${name} PUBLIC ${layer_LINKS})
  include(src/${name}/flags.cmake OPTIONAL)

  if(FEWBITS_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE fewbits_${name} GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE FEWBITS_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    # RapidCheck's headers do not compile cleanly under -Wconversion; as a system header they need not.
    target_link_libraries(${name}_test PRIVATE rapidcheck)
    add_test(NAME ${name} COMMAND ${name}_test)
  endif()
endfunction()
