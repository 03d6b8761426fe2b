#pragma once

#include <CLI/CLI.hpp>

// One function per verb: declares its options on the app and runs when the parser meets it. Facts
// go to stdout, progress and warnings to stderr.
namespace fewbits::cli {

void add_bench(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_chat(CLI::App& app);
void add_embed(CLI::App& app);
void add_eval(CLI::App& app);
void add_inspect(CLI::App& app);
void add_quantize(CLI::App& app);
void add_run(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_transform(CLI::App& app);
void add_tune(CLI::App& app);

}  // namespace fewbits::cli
