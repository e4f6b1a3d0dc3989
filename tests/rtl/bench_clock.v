// Clock of the benches under Icarus.
`timescale 1ns / 1ps
module bench_clock;
    reg clk;
    wire done;
    wire [63:0] digest;
    top benches (.clk(clk), .done(done), .digest(digest));
    initial clk = 1'b0;
    always #1 clk = !clk;
    always @(posedge clk) if (done) $finish;
endmodule
