# Each instruction set has one file, and only that file has its flags.
set(kernels_dir ${CMAKE_SOURCE_DIR}/src/kernels)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(${kernels_dir}/avx2.cc PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
  set(avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND avx512 -Wno-uninitialized -Wno-maybe-uninitialized)  # false alarms in gcc 12's own header
  endif()
  set_source_files_properties(${kernels_dir}/avx512.cc PROPERTIES COMPILE_OPTIONS "${avx512}")
endif()
