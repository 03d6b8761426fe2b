# Each instruction set has one file, and only that file has its flags.
set(kernels_dir ${CMAKE_SOURCE_DIR}/src/kernels)
set(kernel_flags -fno-exceptions)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc turns the running sums of a tile into trees, for which there are not enough registers by far.
  list(APPEND kernel_flags -fno-tree-reassoc)
endif()
set_source_files_properties(${kernels_dir}/scalar.cc PROPERTIES COMPILE_OPTIONS "${kernel_flags}")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(avx2_flags ${kernel_flags} -mavx2 -mfma -mf16c)
  set(avx512_flags ${avx2_flags} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND avx512_flags -Wno-uninitialized -Wno-maybe-uninitialized)  # false alarms in gcc 12's own header
  endif()
  set_source_files_properties(${kernels_dir}/avx2.cc PROPERTIES COMPILE_OPTIONS "${avx2_flags}")
  set_source_files_properties(${kernels_dir}/avx512.cc PROPERTIES COMPILE_OPTIONS "${avx512_flags}")
else()
  set_source_files_properties(${kernels_dir}/avx2.cc ${kernels_dir}/avx512.cc PROPERTIES HEADER_FILE_ONLY ON)
endif()

# The same files without and with optimisation, for symbols_test.cmake alone.
if(FEWBITS_TESTS)
  set(isa_sources ${kernels_dir}/scalar.cc)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    list(APPEND isa_sources ${kernels_dir}/avx2.cc ${kernels_dir}/avx512.cc)
  endif()
  foreach(level O0 O2)
    add_library(kernels_symbols_${level} OBJECT ${isa_sources})
    target_include_directories(kernels_symbols_${level} PRIVATE ${CMAKE_SOURCE_DIR}/src)
    target_compile_options(kernels_symbols_${level} PRIVATE -${level} -w -fno-sanitize=all)
    add_test(NAME kernels_symbols_${level}
             COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} "-DOBJECTS=$<TARGET_OBJECTS:kernels_symbols_${level}>"
                     -P ${kernels_dir}/symbols_test.cmake)
  endforeach()
endif()
