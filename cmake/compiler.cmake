# Warnings are errors with the compilers that ./check builds with, so that none is ever committed; a newer compiler's
# new warning must not stop a user.
if(NOT DEFINED CMAKE_COMPILE_WARNING_AS_ERROR)
  if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13) OR
     (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15))
    set(CMAKE_COMPILE_WARNING_AS_ERROR ON)
  endif()
endif()

# Same sums on every machine: only the kernels may fuse multiply and add (see src/kernels).
add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -ffp-contract=off)

if(FEWBITS_SANITIZE)
  add_compile_options(-fsanitize=${FEWBITS_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${FEWBITS_SANITIZE})
endif()
if(FEWBITS_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "FEWBITS_FUZZ needs clang: cmake --preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
