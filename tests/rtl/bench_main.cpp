// Clock of the benches under Verilator; prints the cycles stepped, the wall time and the sum of all outputs.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "Vtop.h"
#include "verilated.h"

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vtop top{&context};
    top.clk = 0;
    top.eval();  // reads the memories
    long cycle = 0;
    const auto start = std::chrono::steady_clock::now();
    for (; !top.done && !context.gotFinish(); ++cycle) {
        if (cycle > 100000000) return EXIT_FAILURE;
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    top.final();
    std::printf("%ld cycles %.9f seconds digest %lld\n", cycle, seconds.count(), static_cast<long long>(top.digest));
    return EXIT_SUCCESS;
}
