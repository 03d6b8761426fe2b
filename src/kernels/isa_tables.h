#pragma once

#include "kernels/kernel_table.h"

// What the object files of the instruction sets export: one table each, in the file of its name.
namespace fewbits {

extern const KernelTable kScalarTable;
extern const KernelTable kAvx2Table;
extern const KernelTable kAvxVnniTable;
extern const KernelTable kAvx512Table;
extern const TileKernels kAmxTable;  ///< to go with kAvx512Table
extern const KernelTable kDotprodTable;
extern const KernelTable kI8mmTable;

}  // namespace fewbits
