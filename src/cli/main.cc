#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "cli/commands.h"
#include "cli/recipe.h"
#include "cli/version.h"

namespace {

constexpr int kDone = 0, kTheirError = 1, kOurBug = 2;
constexpr int kInterrupted = 130;  // what shells expect after Ctrl-C

int fail(int code, std::string_view message) {
  fmt::print(stderr, "fewbits: {}\n", message);
  return code;
}

int run(int argc, char** argv) {
  CLI::App app("fewbits: makes a trained model small and fast, and proves what that cost",
               "fewbits");
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return fewbits::cli::version_text(); });
  fewbits::cli::add_bench(app);
  fewbits::cli::add_calibrate(app);
  fewbits::cli::add_chat(app);
  fewbits::cli::add_embed(app);
  fewbits::cli::add_eval(app);
  fewbits::cli::add_inspect(app);
  fewbits::cli::add_quantize(app);
  fewbits::cli::add_run(app);
  fewbits::cli::add_tokenize(app);
  fewbits::cli::add_transform(app);
  fewbits::cli::add_tune(app);
  try {
    std::vector<std::string> arguments =
        fewbits::cli::with_recipe({argv + std::min(argc, 1), argv + argc}, app);
    std::ranges::reverse(arguments);  // as parse wants them
    app.parse(std::move(arguments));
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return fail(kTheirError, fmt::format("{} (see fewbits --help)", error.what()));
  }
  return kDone;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of print(), not a silent death
  std::signal(SIGXFSZ, SIG_IGN);  // so is a limit on the size of files
  fewbits::catch_interrupts();
  try {
    return run(argc, argv);
  } catch (const fewbits::Interrupted& error) {
    return fail(kInterrupted, error.what());
  } catch (const fewbits::Error& error) {
    return fail(kTheirError, error.what());
  } catch (const std::bad_alloc&) {
    return fail(kTheirError, "out of memory");
  } catch (const std::exception& error) {
    return fail(kOurBug, fmt::format("internal error: {}", error.what()));
  }
}
