# The searches live from vector code. None of these options changes a result: errno and traps are
# not looked at, and sums keep the order in which they are written.
target_compile_options(fewbits_formats PRIVATE
  $<$<NOT:$<CONFIG:Debug>>:-O3> -fno-math-errno -fno-trapping-math
  # Vectors of eight floats are passed inside a file alone.
  -Wno-psabi)
