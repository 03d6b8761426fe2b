#include "formats/ints.h"

namespace fewbits::ints {

extern const Format int2_g128;
extern const Format int2_g128_asym;
extern const Format int2_g32;
extern const Format int2_g64;
extern const Format int2_g64_asym;
extern const Format int3_channel;
extern const Format int3_g128;
extern const Format int3_g128_asym;
extern const Format int3_g32;
extern const Format int4_channel;
extern const Format int4_channel_asym;
extern const Format int4_g128;
extern const Format int4_g128_asym;
extern const Format int4_g32;
extern const Format int4_g32_asym;
extern const Format int4_g32_narrow;
extern const Format int4_g64;
extern const Format int4_g64_asym;
extern const Format int4_tensor;
extern const Format int8_channel;
extern const Format int8_channel_asym;
extern const Format int8_channel_narrow;
extern const Format int8_g128;
extern const Format int8_g128_asym;
extern const Format int8_g32;
extern const Format int8_tensor;
extern const Format int8_tensor_asym;

constinit const Format int2_g128 = group<2, 128, Range::kFull>("int2_g128", 1.35e-1);
constinit const Format int2_g128_asym = group<2, 128, Range::kZeroPoint>("int2_g128_asym", 1.33e-1);
constinit const Format int2_g32 = group<2, 32, Range::kFull>("int2_g32", 1.11e-1);
constinit const Format int2_g64 = group<2, 64, Range::kFull>("int2_g64", 1.25e-1);
constinit const Format int2_g64_asym = group<2, 64, Range::kZeroPoint>("int2_g64_asym", 1.24e-1);
constinit const Format int3_channel = channel<3, Range::kFull>("int3_channel", 4.04e-2);
constinit const Format int3_g128 = group<3, 128, Range::kFull>("int3_g128", 3.46e-2);
constinit const Format int3_g128_asym = group<3, 128, Range::kZeroPoint>("int3_g128_asym", 3.45e-2);
constinit const Format int3_g32 = group<3, 32, Range::kFull>("int3_g32", 2.64e-2);
constinit const Format int4_channel = channel<4, Range::kFull>("int4_channel", 1.18e-2);
constinit const Format int4_channel_asym =
    channel<4, Range::kZeroPoint>("int4_channel_asym", 1.19e-2);
constinit const Format int4_g128 = group<4, 128, Range::kFull>("int4_g128", 9.38e-3);
constinit const Format int4_g128_asym = group<4, 128, Range::kZeroPoint>("int4_g128_asym", 9.02e-3);
constinit const Format int4_g32 = group<4, 32, Range::kFull>("int4_g32", 6.60e-3);
constinit const Format int4_g32_asym = group<4, 32, Range::kZeroPoint>("int4_g32_asym", 5.99e-3);
constinit const Format int4_g32_narrow = group<4, 32, Range::kNarrow>("int4_g32_narrow", 8.29e-3);
constinit const Format int4_g64 = group<4, 64, Range::kFull>("int4_g64", 8.11e-3);
constinit const Format int4_g64_asym = group<4, 64, Range::kZeroPoint>("int4_g64_asym", 7.58e-3);
constinit const Format int4_tensor = tensor<4, Range::kFull>("int4_tensor", 4.38e-2);
constinit const Format int8_channel = channel<8, Range::kFull>("int8_channel", 7.29e-5);
constinit const Format int8_channel_asym =
    channel<8, Range::kZeroPoint>("int8_channel_asym", 6.80e-5);
constinit const Format int8_channel_narrow =
    channel<8, Range::kNarrow>("int8_channel_narrow", 7.41e-5);
constinit const Format int8_g128 = group<8, 128, Range::kFull>("int8_g128", 3.87e-5);
constinit const Format int8_g128_asym = group<8, 128, Range::kZeroPoint>("int8_g128_asym", 3.40e-5);
constinit const Format int8_g32 = group<8, 32, Range::kFull>("int8_g32", 2.46e-5);
constinit const Format int8_tensor = tensor<8, Range::kFull>("int8_tensor", 1.72e-4);
constinit const Format int8_tensor_asym = tensor<8, Range::kZeroPoint>("int8_tensor_asym", 1.43e-4);

}  // namespace fewbits::ints
