// A delay line: `out` is `in` of CYCLES clock cycles ago, zero after reset.
module delay #(
    parameter BITS = 1,
    parameter CYCLES = 1
) (
    input wire clk,
    input wire reset,
    input wire [BITS-1:0] in,
    output wire [BITS-1:0] out
);
    generate
        if (CYCLES == 0) begin : g_wire
            wire unused = &{1'b0, clk, reset};
            assign out = in;
        end else begin : g_held
            reg [BITS-1:0] held [0:CYCLES-1];
            integer i;
            always @(posedge clk)
                for (i = 0; i < CYCLES; i = i + 1)
                    if (reset) held[i] <= {BITS{1'b0}};
                    else if (i == 0) held[i] <= in;
                    else held[i] <= held[i-1];
            assign out = held[CYCLES-1];
        end
    endgenerate
endmodule
