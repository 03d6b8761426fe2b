# Each instruction set has one file, and only that file has its flags.
set(kernels_dir ${CMAKE_SOURCE_DIR}/src/kernels)
set(kernel_flags)
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
endif()
