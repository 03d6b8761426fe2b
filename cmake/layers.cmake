# fewbits_layer(NAME LINKS ...): the static library fewbits_NAME from src/NAME/**/*.cc and, with FEWBITS_TESTS, the
# test program NAME_test from src/NAME/**/*_test.cc. Instruction-set files get their own flags in src/NAME/flags.cmake.
if(FEWBITS_TESTS OR FEWBITS_FUZZ)
  enable_testing()
endif()
if(FEWBITS_TESTS)
  find_package(GTest REQUIRED)
  # Tests alone know where the repository lies, and from one object: all others are the same in every checkout.
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/source_dir.cc @ONLY CONTENT [[
#include "base/source_dir.h"

std::filesystem::path fewbits::source_dir() {
  return "@CMAKE_SOURCE_DIR@";
}
]])
  add_library(fewbits_source_dir STATIC ${CMAKE_BINARY_DIR}/source_dir.cc)
  target_include_directories(fewbits_source_dir PUBLIC ${CMAKE_SOURCE_DIR}/src)
endif()

set_property(GLOBAL PROPERTY fewbits_layers)

function(fewbits_layer name)
  cmake_parse_arguments(layer "" "" "LINKS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS src/${name}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")

  if(NOT sources)
    add_library(fewbits_${name} INTERFACE)
    target_link_libraries(fewbits_${name} INTERFACE ${layer_LINKS})
    return()
  endif()
  add_library(fewbits_${name} STATIC ${sources})
  set_property(GLOBAL APPEND PROPERTY fewbits_layers fewbits_${name})
  target_include_directories(fewbits_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
  target_link_libraries(fewbits_${name} PUBLIC ${layer_LINKS})
  include(src/${name}/flags.cmake OPTIONAL)

  if(FEWBITS_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE fewbits_${name} fewbits_source_dir GTest::gmock GTest::gtest_main)
    # RapidCheck's headers do not compile cleanly under -Wconversion; as a system header they need not.
    target_link_libraries(${name}_test PRIVATE rapidcheck)
    add_test(NAME ${name} COMMAND ${name}_test)
  endif()
endfunction()
