# Each instruction set has one file, and only that file has its flags.
set(kernels_dir ${CMAKE_SOURCE_DIR}/src/kernels)
set(kernel_flags -fno-exceptions)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc turns the running sums of a tile into trees, for which there are not enough registers by far.
  list(APPEND kernel_flags -fno-tree-reassoc)
endif()
set(scalar_flags ${kernel_flags})
set(avx2_flags ${kernel_flags} -mavx2 -mfma -mf16c)
set(avxvnni_flags ${avx2_flags} -mavxvnni)
set(avx512_flags ${avx2_flags} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND avx512_flags -Wno-uninitialized -Wno-maybe-uninitialized)  # false alarms in gcc 12's own header
endif()
set(amx_flags ${avx512_flags} -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8)
set(dotprod_flags ${kernel_flags} -march=armv8.2-a+dotprod)
set(i8mm_flags ${kernel_flags} -march=armv8.2-a+dotprod+i8mm)

set(instruction_sets scalar)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND instruction_sets avx2 avxvnni avx512 amx)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  list(APPEND instruction_sets dotprod i8mm)
endif()

set(isa_sources)
foreach(isa scalar avx2 avxvnni avx512 amx dotprod i8mm)
  if(isa IN_LIST instruction_sets)
    set_source_files_properties(${kernels_dir}/${isa}.cc PROPERTIES COMPILE_OPTIONS "${${isa}_flags}")
    list(APPEND isa_sources ${kernels_dir}/${isa}.cc)
  else()
    set_source_files_properties(${kernels_dir}/${isa}.cc PROPERTIES HEADER_FILE_ONLY ON)
  endif()
endforeach()

# The same files without and with optimisation, for symbols_test.cmake alone.
if(FEWBITS_TESTS)
  foreach(level O0 O2)
    add_library(kernels_symbols_${level} OBJECT ${isa_sources})
    target_include_directories(kernels_symbols_${level} PRIVATE ${CMAKE_SOURCE_DIR}/src)
    target_compile_options(kernels_symbols_${level} PRIVATE -${level} -w -fno-sanitize=all)
    add_test(NAME kernels_symbols_${level}
             COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} "-DOBJECTS=$<TARGET_OBJECTS:kernels_symbols_${level}>"
                     -P ${kernels_dir}/symbols_test.cmake)
  endforeach()
endif()
