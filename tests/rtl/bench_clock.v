// Clock of the benches under Icarus.
`timescale 1ns / 1ps
module bench_clock;
    reg clk;
    wire done;
    top benches (.clk(clk), .done(done));
    initial clk = 1'b0;
    always #1 clk = !clk;
    always @(posedge clk) if (done) $finish;
endmodule
