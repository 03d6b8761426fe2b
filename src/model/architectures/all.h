#pragma once

#include "model/architecture.h"

// Every architecture, each defined in the file of its name.
namespace fewbits {

namespace bert {
extern const Architecture architecture;
}
namespace deepseek2 {
extern const Architecture architecture;
}
namespace falcon {
extern const Architecture architecture;
}
namespace gemma2 {
extern const Architecture architecture;
}
namespace gemma3 {
extern const Architecture architecture;
}
namespace gpt2 {
extern const Architecture architecture;
}
namespace granite {
extern const Architecture architecture;
}
namespace llama {
extern const Architecture architecture;
}
namespace mistral {
extern const Architecture architecture;
}
namespace mixtral {
extern const Architecture architecture;
}
namespace modernbert {
extern const Architecture architecture;
}
namespace olmo2 {
extern const Architecture architecture;
}
namespace opt {
extern const Architecture architecture;
}
namespace phi3 {
extern const Architecture architecture;
}
namespace qwen2 {
extern const Architecture architecture;
}
namespace qwen3 {
extern const Architecture architecture;
}
namespace qwen3_moe {
extern const Architecture architecture;
}
namespace roberta {
extern const Architecture architecture;
}
namespace stablelm {
extern const Architecture architecture;
}

}  // namespace fewbits
