// Clock of the benches under Verilator.
#include <cstdlib>

#include "Vtop.h"
#include "verilated.h"

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vtop top{&context};
    for (long cycle = 0; !top.done && !context.gotFinish(); ++cycle) {
        if (cycle > 1000000) return EXIT_FAILURE;
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
    }
    top.final();
    return EXIT_SUCCESS;
}
